package usher

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// patience bounds every wait for a process.
const patience = 30 * time.Second

// Attempt is one attempt of a record.
type Attempt struct {
	Backend, Pod, Result, Errno string
	Hedged                      bool
	StartMS                     float64 `json:"start_ms"`
}

// Record is what became of a connection (event conn.close) or of a UDP session
// (udp.close), as the JSON log has it.
type Record struct {
	ID                        string
	Event, Reason, Errno      string
	Level, Proto              string
	NS, Service               string
	Port                      string `json:"port_name"`
	ClientIP                  string `json:"client_ip"`
	ClientPort                int    `json:"client_port"`
	VIP                       string
	VIPPort                   int    `json:"vip_port"`
	VIPKind                   string `json:"vip_kind"`
	BackendIP                 string `json:"backend_ip"`
	BackendPort               int    `json:"backend_port"`
	BackendPod                string `json:"backend_pod"`
	Source, Set, Affinity     string
	Attempts                  []Attempt
	BytesIn                   int64   `json:"bytes_in"`
	BytesOut                  int64   `json:"bytes_out"`
	DgramsIn                  int64   `json:"dgrams_in"`
	DgramsOut                 int64   `json:"dgrams_out"`
	DgramsDropped             int64   `json:"dgrams_dropped"`
	FirstReplyMS              float64 `json:"first_byte_backend_ms"`
	WaitedMS                  float64 `json:"accept_wait_ms"`
	ConnectMS                 float64 `json:"connect_ms"`
	DurationMS                float64 `json:"duration_ms"`
	ClientClose, BackendClose string  `json:"-"`
}

// A Process is a running usher. It ends with its test; if that failed, its log
// is part of the output.
type Process struct {
	t    testing.TB
	ns   *netns.NS
	cmd  *netns.Cmd
	done chan struct{} // closed when its output has ended

	mu      sync.Mutex
	lines   []string
	records []Record
	changed chan struct{} // closed and renewed with each line
}

// Start runs usher with args in a namespace and waits until it serves.
func Start(t testing.TB, ns *netns.NS, args ...string) *Process {
	t.Helper()
	return StartProgram(t, ns, Binary(), args...)
}

// StartProgram is Start of the usher at a path.
func StartProgram(t testing.TB, ns *netns.NS, path string, args ...string) *Process {
	t.Helper()
	p := launch(t, ns, append([]string{path, "run", "--log-format=json", "--min-sync-period=5ms", "--admin-socket="}, args...))
	netns.EventuallyWithin(t, patience, "usher serves", func() error {
		select {
		case <-p.done:
			t.Fatalf("usher ended: %v\n%s", p.cmd.Wait(), p.Log())
		default:
		}
		resp, err := ns.HTTPClient().Get("http://127.0.0.1:10256/readyz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", resp.Status)
		}
		return nil
	})
	return p
}

// Run runs usher with args in a namespace until it ends, and returns what it wrote
// and its exit code.
func Run(t testing.TB, ns *netns.NS, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := ns.Command(ctx, os.Getenv(binaryEnv), args...)
	var out, faults strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), faults.String(), cmd.ProcessState.ExitCode()
}

// Launch runs usher with args in a namespace and waits for nothing.
func Launch(t testing.TB, ns *netns.NS, args ...string) *Process {
	t.Helper()
	return LaunchUnder(t, ns, nil, args...)
}

// LaunchUnder is Launch by a program that takes another one's command line as its last
// arguments and becomes that one, as setpriv(1) does.
func LaunchUnder(t testing.TB, ns *netns.NS, program []string, args ...string) *Process {
	t.Helper()
	return launch(t, ns, slices.Concat(program, []string{Binary()}, args))
}

func launch(t testing.TB, ns *netns.NS, line []string) *Process {
	t.Helper()
	p := &Process{t: t, ns: ns, done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd = ns.Command(context.Background(), line[0], line[1:]...)
	out, in := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = in, in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() {
		p.Kill()
		in.Close()
		<-p.done
		if t.Failed() {
			t.Logf("the last that usher said:\n%s", p.tail(60))
		}
	})
	go func() {
		p.cmd.Wait()
		in.Close()
	}()
	return p
}

func (p *Process) read(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.line(lines.Text())
	}
}

func (p *Process) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, text)
	p.records = append(p.records, RecordsIn(text)...)
	close(p.changed)
	p.changed = make(chan struct{})
}

// RecordsIn are the records in a JSON log.
func RecordsIn(log string) (all []Record) {
	for line := range strings.Lines(log) {
		var r Record
		if json.Unmarshal([]byte(line), &r) == nil && (r.Event == "conn.close" || r.Event == "udp.close") {
			all = append(all, r)
		}
	}
	return all
}

// Log is everything that it has written so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// tail is the last n lines.
func (p *Process) tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines[max(0, len(p.lines)-n):], "\n")
}

// WaitLog waits until the log has a line that contains text.
func (p *Process) WaitLog(text string) {
	p.t.Helper()
	p.wait("a line with "+text, func() bool {
		return slices.ContainsFunc(p.lines, func(l string) bool { return strings.Contains(l, text) })
	})
}

// Records waits until there are n records that match, and returns all that do.
func (p *Process) Records(n int, match func(Record) bool) (found []Record) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%d records", n), func() bool {
		found = slices.DeleteFunc(slices.Clone(p.records), func(r Record) bool { return !match(r) })
		return len(found) >= n
	})
	return found
}

// wait waits until f, which is called with p.mu held, is true.
func (p *Process) wait(what string, f func() bool) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		ok, changed := f(), p.changed
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			p.t.Fatalf("usher: waited for %s in vain", what)
		}
	}
}

// Stop asks usher to end (SIGTERM), waits, and returns its exit code.
func (p *Process) Stop() int { return p.end(syscall.SIGTERM) }

// Signal sends it a signal and does not wait.
func (p *Process) Signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// Kill ends usher as a crash does.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

func (p *Process) end(signal syscall.Signal) int {
	p.cmd.Process.Signal(signal)
	return p.Wait()
}

// Wait waits for usher to end and returns its exit code, -1 after a signal.
func (p *Process) Wait() int {
	p.t.Helper()
	kill := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// PID is the process' number.
func (p *Process) PID() int { return p.cmd.Process.Pid }
