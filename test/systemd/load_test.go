package systemd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
)

// Whoever talks through usher sees nothing of systemctl restart.
func TestRestartUnderLoad(t *testing.T) {
	s := newScene(t)
	load.UnderLoad(s.site, "systemd", fdStore{s})
}

// fdStore is the carrier by systemd's store of file descriptors.
type fdStore struct{ *scene }

func (c fdStore) Start() {
	c.t.Helper()
	c.configure("manifests: [/etc/usher/manifests]", "logFormat: json")
	c.Systemctl("start", "usher")
}

func (c fdStore) Upgrade() {
	c.t.Helper()
	c.another("restart", "usher")
}

func (c fdStore) Log() string { return c.Journal("usher") }

func (c fdStore) Stop() {
	c.t.Helper()
	c.Systemctl("stop", "usher")
	if result := c.Property("usher", "Result"); result != "success" {
		c.t.Errorf("the result is %s", result)
	}
}

// another has systemctl start another process, which serves when this returns.
func (s *scene) another(systemctl ...string) {
	s.t.Helper()
	pid := s.Property("usher", "MainPID")
	s.Systemctl(systemctl...)
	netns.Eventually(s.t, "another process serves", func() error {
		if now := s.Property("usher", "MainPID"); now == pid || now == "0" {
			return fmt.Errorf("it is %s", now)
		}
		return nil
	})
	s.is("ActiveState", "active")
}

// busy is a scene with usher started and clients under way.
type busy struct {
	*scene
	*load.Load
}

func newBusy(t *testing.T, size load.Size) *busy {
	s := newScene(t)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for line := range strings.Lines(s.Journal("usher")) {
			if !strings.Contains(line, "reason=ok") {
				t.Log(line)
			}
		}
	})
	s.Systemctl("start", "usher")
	l := &busy{s, load.Begin(s.site, size)}
	l.Flows()
	return l
}

// crash kills usher, and waits until it serves again.
func (l *busy) crash(times string) {
	l.t.Helper()
	l.Kill(func() { l.Systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", "usher") })
	if !l.ruled() {
		l.t.Error("the rules went with usher")
	}
	l.is("NRestarts", times)
	l.is("ActiveState", "active")
	l.served()
}

// After a crash connections and sessions are gone, and nobody who comes is refused: sockets
// wait in systemd's store, those that came before the crash and after an upgrade.
func TestCrashUnderLoad(t *testing.T) {
	l := newBusy(t, load.Full)
	l.Systemctl("reload", "usher")
	l.Flows()
	row := l.Renew("SIGKILL", 1, func() error {
		l.crash("1")
		return nil
	})
	l.clean()
	l.End()
	row.Record()
	if n := l.Failed.Count(); n > 0 {
		t.Errorf("%d new connections have failed: %v", n, &l.Failed)
	}
	// Beside those that last there are requests that were being served.
	if n, lasting := l.Broken.Count(), load.Full.Streams+load.Full.Statements; n < lasting || n > lasting+20 {
		t.Errorf("%d established connections have ended, there were %d: %v", n, lasting, &l.Broken)
	}
	if n := l.Lost.Count(); n > load.Full.Sockets {
		t.Errorf("%d datagrams are lost: %v", n, &l.Lost)
	}
}
