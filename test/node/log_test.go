package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// logged is a usher whose stderr is a pipe of the test's.
type logged struct {
	*netns.Cmd
	read  *os.File
	ended chan error
}

// startLogged runs usher on the node's manifests, with a pipe that has room for a few
// lines.
func (s *scene) startLogged(args ...string) *logged {
	s.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		s.t.Fatal(err)
	}
	unix.SetNonblock(int(write.Fd()), false)
	u := &logged{read: read, ended: make(chan error, 1)}
	u.Cmd = s.NS.Command(context.Background(), os.Getenv("USHER_TEST_BINARY"), append([]string{"run", "--admin-socket=", "--min-sync-period=5ms"}, s.args(args...)...)...)
	u.Stderr = write
	if err := u.Start(); err != nil {
		s.t.Fatal(err)
	}
	write.Close()
	ended := make(chan struct{})
	go func() { defer close(ended); u.ended <- u.Wait() }()
	s.t.Cleanup(func() { u.Process.Kill(); <-ended; read.Close() })
	return u
}

// stops ends it in good order.
func (u *logged) stops(t *testing.T) {
	t.Helper()
	u.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-u.ended:
		if err != nil {
			t.Errorf("usher ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("usher does not end")
	}
}

// Whoever reads the log has stopped to, or is gone: connections are served, changes take
// effect, and usher ends when it is told to.
func TestNobodyReadsTheLog(t *testing.T) {
	for what, change := range map[string]func(u *logged){
		"stopped": func(*logged) {},
		"gone":    func(u *logged) { u.read.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			s := newScene(t)
			s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
			u := s.startLogged("--log-level=debug")
			change(u)
			served(t, s.client.NS, vip(10))
			for range 100 {
				if _, err := s.client.Get(vip(10)); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 50 { // each is a message of usher's own
				s.write("broken.yaml", fmt.Sprintf("apiVersion: v1\nkind: [%d", i))
				time.Sleep(5 * time.Millisecond) // several changes may be one
			}
			s.write("later.yaml", manifest("later", 11, 30081, s.pods[0].IPv4))
			served(t, s.client.NS, vip(11))
			u.stops(t)
		})
	}
}

// Records go to the file and messages to stderr; when somebody moves the file another one
// is begun.
func TestRecordsInFile(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(t.TempDir(), "usher.log")
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := usher.Start(t, s.NS, s.args("--log-file="+path)...)
	served(t, s.client.NS, vip(10))
	netns.Eventually(t, "a record", func() error { return hasRecord(path) })
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	netns.Eventually(t, "a record in another file", func() error {
		if _, err := s.client.Get(vip(10)); err != nil {
			t.Fatal(err)
		}
		return hasRecord(path)
	})
	if strings.Contains(u.Log(), "conn.close") || !strings.Contains(u.Log(), "capture=iptables") {
		t.Errorf("stderr has records, or no messages:\n%s", u.Log())
	}
	if code := u.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// hasRecord says whether all lines of a file are records, and there is one.
func hasRecord(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); n++ {
		var r usher.Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Event != "conn.close" {
			return fmt.Errorf("%q: %v", lines.Text(), err)
		}
	}
	if n == 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// The disk is full from the start: connections are served, the log says it once, and
// metrics count what was lost.
func TestDiskOfTheLogIsFull(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := usher.Start(t, s.NS, s.args("--log-file=/dev/full")...)
	served(t, s.client.NS, vip(10))
	for range 50 {
		if _, err := s.client.Get(vip(10)); err != nil {
			t.Fatal(err)
		}
	}
	u.WaitLog("cannot write records")
	netns.Eventually(t, "drops are counted", func() error {
		resp, err := s.NS.HTTPClient().Get("http://127.0.0.1:10249/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		for line := range strings.Lines(string(text)) {
			var n int
			if _, err := fmt.Sscanf(line, `usher_log_dropped_total{cause="write",sink="file"} %d`, &n); err == nil && n >= 50 {
				return nil
			}
		}
		return fmt.Errorf("they are not (%v)", err)
	})
	if n := strings.Count(u.Log(), "cannot write records"); n != 1 {
		t.Errorf("%d warnings", n)
	}
}
