package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/admin"
)

// busy is what usher tells of n Services at some second: the i-th opens i connections in
// each.
func busy(n, second int) *topAnswer {
	a := &topAnswer{
		traffic: admin.TrafficNow{Time: time.Unix(1000+int64(second), 0)},
		status:  admin.Status{Version: "v1", Node: "node-1", Capture: "bind", Connections: 7, Files: admin.Gauge{Used: 1, Limit: 10}},
		attention: []admin.Attention{{Severity: "error", Kind: "Service", Namespace: "shop", Name: "web", Reason: "NoEndpoints",
			Message: "none is ready, and so all that somebody sends there is refused until one is"}},
		talk: admin.Talk{Seconds: 10, Edges: []admin.Edge{
			{Client: "10.0.0.5", Namespace: "shop", Service: "s1", Endpoint: "10.1.0.1:80", Pod: "shop/a", Count: 20, Active: 2, Trouble: 1, Bytes: 5000},
			{Client: "10.0.0.5", Namespace: "shop", Service: "s2", Endpoint: "10.1.0.2:80", Count: 10, Active: 1, Failed: 3},
			{Client: "10.0.0.6", Namespace: "shop", Service: "s1", Endpoint: "10.1.0.1:80", Pod: "shop/a", Count: 30},
			{Client: "10.0.0.6", Namespace: "shop", Service: "s1", Count: 1},
		}},
		view: endpointsView,
		ports: []admin.ServicePort{{Namespace: "shop", Service: "s1", Endpoints: []admin.EndpointStatus{
			{Address: "10.1.0.1:80", Pod: "shop/a", State: admin.In, Connections: new(2)}, {Address: "10.1.0.3:80", State: admin.Out, Why: "not ready"}}}},
	}
	for i := range n {
		grown := uint64(i * second)
		a.traffic.Ports = append(a.traffic.Ports, admin.PortTraffic{Namespace: "shop", Service: fmt.Sprint("s", i), PortName: "http", Protocol: "tcp", Traffic: admin.Traffic{
			Active: int64(n - i), Opened: grown, BytesIn: grown * 1000, BytesOut: grown * 2000, Retries: grown, Trouble: grown,
			Recent: &admin.RecentTraffic{ConnectP50: 0.4, ConnectP99: 12}}})
	}
	return a
}

func TestTopOfServices(t *testing.T) {
	m := newTopModel(servicesView)
	m.take(busy(3, 1))
	has(t, "before there are two answers", strings.Join(m.frame(80, 10, false), "\n"), "shop/s0:http - 3 - - - - 0.40 12.0\n")
	m.take(busy(3, 3))
	lines := m.frame(80, 24, false)
	if len(lines) != 24 {
		t.Errorf("%d lines", len(lines))
	}
	has(t, "the screen", strings.Join(lines, "\n"), "usher v1 on node-1, capture bind", "7 connections, 0 sessions, 0 service ports, files 1 of 10 (10%)\n",
		"attention (1): error Service shop/web NoEndpoints: none is ready, and so all th~\n", "[services] endpoints clients 1-3 of 3, by CONN/S\n",
		"SERVICE CONN/S ACTIVE IN/S OUT/S RETRY/S TRBL/S P50 P99\n",
		"shop/s2:http 2.0 1 2.0kB 4.0kB 2.0 2.0 0.40 12.0\n", "shop/s1:http 1.0 2 1.0kB 2.0kB 1.0 1.0", "shop/s0:http 0 3 0B 0B 0 0", "q quit")

	restarted := busy(3, 4)
	for i := range restarted.traffic.Ports {
		restarted.traffic.Ports[i].Opened = 0
	}
	m.take(restarted)
	has(t, "after a restart", strings.Join(m.frame(80, 24, false), "\n"), "shop/s0:http 0 3", "shop/s1:http 0 2")

	m.take(&topAnswer{err: errors.New("nobody\x1b[2J is there")})
	has(t, "without usher", strings.Join(m.frame(80, 24, false), "\n"), "as it was: nobody?[2J is there\n", "shop/s0:http")
}

func TestTopOfEndpointsAndClients(t *testing.T) {
	m := newTopModel(endpointsView)
	m.take(busy(3, 1))
	has(t, "endpoints", strings.Join(m.frame(120, 24, false), "\n"), "SERVICE ENDPOINT POD STATE CONN/S ACTIVE BYTES/S TRBL FAILED\n",
		"shop/s1 10.1.0.1:80 shop/a in 5.0 2 500B 1 0\n", "shop/s2 10.1.0.2:80 1.0 1 0B 0 3\n", "shop/s1 10.1.0.3:80 out 0 0 0B 0 0\n")
	m.press("tab")
	has(t, "clients", strings.Join(m.frame(120, 24, false), "\n"), "CLIENT POD CONN/S ACTIVE BYTES/S SERVICES TRBL FAILED\n",
		"10.0.0.6 3.1 0 0B 1 0 0\n", "10.0.0.5 3.0 3 500B 2 1 3\n")
}

// No line is wider than the screen, whatever its size, and there are as many as it has.
func TestTopFitsTheScreen(t *testing.T) {
	for view := range topViews {
		m := newTopModel(view)
		m.take(busy(50, 1))
		m.take(busy(50, 2))
		for _, typing := range []bool{false, true} {
			m.typing = typing
			for _, width := range []int{1, 2, 10, 40, 79, 80, 81, 120, 300} {
				for _, height := range []int{1, 2, 5, 6, 7, 24, 100} {
					lines := m.frame(width, height, false)
					if len(lines) != height {
						t.Errorf("%s at %dx%d: %d lines", topViews[view], width, height, len(lines))
					}
					for _, line := range lines {
						if n := utf8.RuneCountInString(line); n > width {
							t.Errorf("%s at %dx%d: %d wide: %q", topViews[view], width, height, n, line)
						}
					}
				}
			}
		}
	}
	m := newTopModel(servicesView)
	m.take(busy(50, 1))
	for i := range m.last.traffic.Ports {
		m.last.traffic.Ports[i].Service = strings.Repeat("long", 20)
	}
	m.show(servicesView)
	for _, line := range m.frame(80, 24, false)[headLines-1 : 20] {
		if !strings.HasSuffix(line, "12.0") && !strings.HasSuffix(line, "P99") {
			t.Errorf("at 80 the last column is cut: %q", line)
		}
	}
}

func TestTopKeys(t *testing.T) {
	m := newTopModel(servicesView)
	m.take(busy(100, 1))
	m.take(busy(100, 2))
	first := func() string { return strings.Fields(m.frame(80, 16, false)[headLines])[0] }
	for _, step := range []struct{ keys, first string }{
		{"", "shop/s99:http"},
		{"down down up", "shop/s98:http"},
		{"home pgdn", "shop/s89:http"},
		{"end", "shop/s9:http"},
		{"down pgdn", "shop/s9:http"},
		{"pgup", "shop/s19:http"},
		{"g up", "shop/s99:http"},
		{"s", "shop/s0:http"},                    // the most active
		{"S S", "shop/s0:http"},                  // by name
		{"s / 4 2 enter", "shop/s42:http"},       //
		{"/ backspace", "shop/s99:http"},         // of all with a 4: 94, which opens most
		{"esc", "shop/s99:http"},                 //
		{"/ x y z", "No"},                        // name contains it
		{"esc / S 7 7 enter j", "shop/s77:http"}, // in any case
		{"esc tab tab tab", "shop/s99:http"}, {"3", "10.0.0.6"}, {"2", "shop/s1"}, {"1 nonsense", "shop/s99:http"},
	} {
		for _, key := range strings.Fields(step.keys) {
			if m.press(key) {
				t.Errorf("%q quits", key)
			}
		}
		if step.keys == "/ backspace" {
			step.first = "shop/s94:http"
			m.press("enter")
		}
		if got := first(); got != step.first {
			t.Errorf("after %q the first is %s, want %s:\n%s", step.keys, got, step.first, strings.Join(m.frame(80, 16, false), "\n"))
		}
	}
	for _, key := range []string{"q", "ctrl-c"} {
		if !m.press(key) {
			t.Errorf("%q does not quit", key)
		}
	}
	m.press("/")
	if m.press("q") || !m.press("ctrl-c") {
		t.Error("in a filter q is a letter, and ctrl-C quits")
	}
}

func TestKeysOfATerminal(t *testing.T) {
	got := keysIn([]byte("a\x1b[A\x1b[6~\x1bOB\x1b[1;5C\xc3\xa4\t\r\x7f\x03\x00\x1b[20"))
	if want := []string{"a", "up", "pgdn", "down", "ä", "tab", "enter", "backspace", "ctrl-c"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := keysIn([]byte("\x1b")); !reflect.DeepEqual(got, []string{"esc"}) {
		t.Errorf("%q", got)
	}
}

// topSocket is that of a usher with three Services.
func topSocket(t *testing.T) string {
	var second atomic.Int64
	view := func(of func(*topAnswer) any) admin.View {
		return admin.View{Show: func(url.Values) (any, error) { return of(busy(3, int(second.Load()))), nil }}
	}
	return adminSocket(t, map[string]admin.View{
		"/v1/traffic":   view(func(a *topAnswer) any { second.Add(1); return a.traffic }),
		"/v1/status":    view(func(a *topAnswer) any { return a.status }),
		"/v1/attention": view(func(a *topAnswer) any { return a.attention }),
		"/v1/map":       view(func(a *topAnswer) any { return a.talk }),
		"/v1/endpoints": view(func(a *topAnswer) any { return a.ports }),
	}, nil)
}

func TestTopOnce(t *testing.T) {
	socket := topSocket(t)
	out, _, code := saidOf(t, "top", "--once", "--interval=200ms", "--admin-socket="+socket)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	has(t, "top --once", out, "SERVICE CONN/S ACTIVE", "shop/s2:http 2.0 1 2.0kB")
	var answer struct {
		Seconds  float64
		Services []topService
	}
	out, _, _ = saidOf(t, "top", "svc", "--once", "--interval=200ms", "-o", "json", "--admin-socket="+socket)
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.Seconds != 1 || len(answer.Services) != 3 || answer.Services[0].Opened != 2 || answer.Services[0].Service != "s2" {
		t.Errorf("with %v, %s", err, out)
	}
}

func TestTopWrongly(t *testing.T) {
	socket := topSocket(t)
	for args, want := range map[string]string{
		"":                      "top needs a terminal; --once does not",
		"pods":                  `"pods": want services, endpoints or clients`,
		"services now":          `unexpected argument "now"`,
		"--interval=1ms --once": "--interval=1ms: want at least 200ms",
		"-o xml --once":         "--output=xml: want table or json",
		"-o json":               "--output=json is for --once",
		"--color=red":           "--color=red: want",
	} {
		root := newRoot(nil)
		root.SetIn(strings.NewReader(""))
		root.SetOut(new(bytes.Buffer))
		root.SetArgs(append(strings.Fields("top "+args), "--admin-socket="+socket))
		if err := root.ExecuteContext(t.Context()); err == nil || !isUsage(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("top %s: %v", args, err)
		}
	}
	if _, messages, code := saidOf(t, "top", "--once", "--admin-socket="+filepath.Join(t.TempDir(), "none")); code != exitUnreachable {
		t.Errorf("exit code %d, %s", code, messages)
	}
}

// pty is a terminal, and who sits before it (pty(7)).
type pty struct {
	master, terminal *os.File
	mu               sync.Mutex
	seen             bytes.Buffer
	ended            chan struct{}
}

func newPTY(t *testing.T, width, height uint16) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudoterminal can be had: ", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{master: master, terminal: terminal, ended: make(chan struct{})}
	p.resize(t, width, height)
	go func() {
		defer close(p.ended)
		room := make([]byte, 4096)
		for {
			n, err := master.Read(room)
			if err != nil {
				return // its last user has closed it
			}
			p.mu.Lock()
			p.seen.Write(room[:n])
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		terminal.Close()
		<-p.ended
		master.Close()
	})
	return p
}

func (p *pty) resize(t *testing.T, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(p.terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
}

// shows waits until that has been written since the last call, and forgets up to it.
func (p *pty) shows(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		i := bytes.Index(p.seen.Bytes(), []byte(text))
		if i >= 0 {
			p.seen.Next(i + len(text))
		}
		p.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Fatalf("it never shows %q, but\n%q", text, p.seen.String())
}

func (p *pty) mode(t *testing.T) unix.Termios {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *mode
}

func TestTopOnATerminal(t *testing.T) {
	for about, end := range map[string]func(p *pty, stop func()){
		"q":      func(p *pty, _ func()) { p.master.WriteString("q") },
		"ctrl-C": func(p *pty, _ func()) { p.master.WriteString("\x03") },
		"signal": func(_ *pty, stop func()) { stop() },
	} {
		t.Run(about, func(t *testing.T) {
			p := newPTY(t, 80, 24)
			before := p.mode(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			root := newRoot(nil)
			root.SetIn(p.terminal)
			root.SetOut(p.terminal)
			root.SetArgs([]string{"top", "--interval=200ms", "--color=never", "--admin-socket=" + topSocket(t)})
			ended := make(chan error, 1)
			go func() { ended <- root.ExecuteContext(ctx) }()

			p.shows(t, beginScreen)
			p.shows(t, "shop/s2:http")
			if p.mode(t).Lflag&(unix.ICANON|unix.ECHO) != 0 {
				t.Error("the terminal still edits lines, or echoes")
			}
			p.shows(t, " 2.0      1  2.0kB") // rates
			p.master.WriteString("/s1")
			p.shows(t, "filter: s1_")
			p.master.WriteString("\r\x1b[B")
			p.shows(t, "1-1 of 1 (3 in all)")
			p.master.WriteString("\t")
			p.shows(t, "[endpoints]")
			p.resize(t, 40, 8)
			p.shows(t, "usher v1 on node-1, capture bi~") // it fits a smaller one
			end(p, stop)
			if err := <-ended; err != nil {
				t.Errorf("it ends with %v", err)
			}
			p.shows(t, endScreen)
			if after := p.mode(t); after != before {
				t.Errorf("the terminal is left as %+v, and was %+v", after, before)
			}
		})
	}
}

// A panic leaves the terminal as it was, be it in a goroutine or not.
func TestTopPanics(t *testing.T) {
	p := newPTY(t, 80, 24)
	before := p.mode(t)
	m := newTopModel(servicesView)
	m.take(busy(3, 1))
	m.boards[endpointsView] = nil // which is shown by Tab
	recovered := make(chan any, 1)
	go func() {
		defer func() { recovered <- recover() }()
		live(t.Context(), newTopPoller(topSocket(t), time.Hour, servicesView), m, false, p.terminal, p.terminal)
	}()
	p.shows(t, "shop/s2:http")
	p.master.WriteString("\t")
	if r := <-recovered; r == nil {
		t.Error("nothing panics")
	}
	p.shows(t, endScreen)
	if after := p.mode(t); after != before {
		t.Errorf("the terminal is left as %+v, and was %+v", after, before)
	}
	if err := <-guarded(func() error { panic("a\x1b[2J") }); err == nil || err.Error() != "internal error: a?[2J" {
		t.Errorf("of a goroutine it is %v", err)
	}
}

// Addresses of one network begin alike: on a narrow screen the other names are cut first.
func TestAddressesAreCutLast(t *testing.T) {
	m := &topModel{boards: newBoards(), view: endpointsView, by: make([]int, len(topViews))}
	row := []string{"default/a-service", "10.244.0.11:8080", "default/a-long-pod-name-7d9f", "in", "0.5", "2", "1.4kB", "2", "0"}
	if w := m.widths([][]string{row}, 80); w[1] < len(row[1]) || w[0] < leastName || w[2] < leastName {
		t.Errorf("the widths are %d", w)
	}
	if w := m.widths([][]string{row}, 60); w[1] >= len(row[1]) {
		t.Errorf("on 60 columns the widths are %d", w)
	}
}
