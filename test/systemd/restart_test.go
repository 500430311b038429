package systemd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// newLoad is a scene with usher started and clients under way.
func newLoad(t *testing.T) *load {
	l := startLoad(newScene(t))
	l.Systemctl("start", "usher")
	l.begin()
	l.flows()
	return l
}

// flows waits until much has moved since now, so that something is under way everywhere.
func (l *load) flows() {
	l.t.Helper()
	from := l.moved.Load()
	netns.Eventually(l.t, "bytes move", func() error {
		if n := l.moved.Load() - from; n < 40*piece {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
}

// nothingLost is after what clients are not to notice.
func (l *load) nothingLost(t *testing.T) {
	t.Helper()
	l.finish(t)
	if len(l.failed) > 0 || len(l.broken) > 0 {
		t.Errorf("failed: %v\nbroken: %v\n%s", l.failed, l.broken, l.Journal("usher"))
	}
	if l.replied < l.asked || len(l.peers) > 1 {
		t.Errorf("%d of %d datagrams were answered, in %d sessions", l.replied, l.asked, len(l.peers))
	}
}

// What is served goes on in another process: bytes under way, connections half closed or
// stalled, UDP sessions; who comes meanwhile waits.
func TestRestart(t *testing.T) {
	l := newLoad(t)
	for _, how := range []string{"restart", "try-restart", "restart"} {
		l.goesOnAfter(how, "usher")
	}
	// As a part of another unit.
	l.Push("/etc/systemd/system/other.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n", 0o644)
	l.Push("/etc/systemd/system/usher.service.d/other.conf", "[Unit]\nPartOf=other.service\n", 0o644)
	l.Systemctl("daemon-reload")
	l.Systemctl("start", "other")
	l.goesOnAfter("restart", "other")
	l.nothingLost(t)
}

// A restart may come at any time of the start before.
func TestRestartDuringStart(t *testing.T) {
	l := newLoad(t)
	for i := range 12 {
		l.Systemctl("restart", "--no-block", "usher")
		time.Sleep(time.Duration(i) * 50 * time.Millisecond) // into another moment each time
	}
	l.Systemctl("restart", "usher")
	l.flows()
	l.nothingLost(t)
}

// goesOnAfter has systemctl start another process.
func (l *load) goesOnAfter(systemctl ...string) {
	l.t.Helper()
	pid := l.Property("usher", "MainPID")
	l.Systemctl(systemctl...)
	netns.Eventually(l.t, "another process serves", func() error {
		if now := l.Property("usher", "MainPID"); now == pid || now == "0" {
			return fmt.Errorf("it is %s", now)
		}
		return nil
	})
	l.is("ActiveState", "active")
	l.flows()
}

// systemctl reload has the program that is there now take over, in the same process.
func TestReload(t *testing.T) {
	l := newLoad(t)
	pid := l.Property("usher", "MainPID")
	for range 3 {
		l.Systemctl("reload", "usher")
		l.flows()
	}
	if now := l.Property("usher", "MainPID"); now != pid {
		t.Errorf("process %s became %s", pid, now)
	}
	l.Push("/etc/usher/config.yaml", "retrys: 3\n", 0o644)
	if _, err := l.Try("systemctl", "reload", "usher"); err == nil {
		t.Error("a reload succeeds with a configuration that cannot be meant")
	}
	l.flows()
	l.nothingLost(t)
}

// In the moment of an upgrade in place everything is in the store, too: a program that has
// proved itself and then dies at once costs nothing.
func TestCrashWithinUpgrade(t *testing.T) {
	l := newLoad(t)
	l.Machine.Run("mv", "/usr/bin/usher", "/usr/bin/usher.good")
	l.Push("/usr/bin/usher", `#!/bin/sh
if [ "$1" = run ] && [ -z "$USHER_TRIAL" ] && mkdir /run/usher/once 2>/dev/null; then kill -KILL $$; fi
exec /usr/bin/usher.good "$@"
`, 0o755)
	if out, err := l.Try("systemctl", "reload", "usher"); err == nil {
		t.Errorf("a reload succeeds though the new process has died: %s", out)
	}
	l.is("NRestarts", "1")
	l.is("ActiveState", "active")
	l.flows()
	l.nothingLost(t)
}

// After a crash connections and sessions are gone, and nobody who comes is refused: sockets
// wait in systemd's store, those that came before the crash and after an upgrade.
func TestCrashUnderLoad(t *testing.T) {
	l := newLoad(t)
	l.Systemctl("reload", "usher")
	l.flows()
	l.crash("1")
	l.clean()
	l.finish(t)
	if len(l.broken) < 2*streams { // the one that only receives is told an end like any other
		t.Errorf("of the lasting connections have ended: %v", l.broken)
	}
	// Those end that were being served in that moment.
	for _, err := range l.failed {
		if strings.Contains(err.Error(), "refused") {
			t.Errorf("refused: %v\n%s", err, l.Journal("usher"))
		}
	}
	if len(l.failed) > 2 || l.replied < l.asked-5 {
		t.Errorf("failed: %v; %d of %d datagrams answered\n%s", l.failed, l.replied, l.asked, l.Journal("usher"))
	}
}

// crash waits until usher serves again.
func (l *load) crash(times string) {
	l.t.Helper()
	l.Systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", "usher")
	if !l.ruled() {
		l.t.Error("the rules went with usher")
	}
	l.is("NRestarts", times)
	l.is("ActiveState", "active")
	l.served()
}

// clean waits until the store has nothing but the sockets that serve, and their table.
func (l *load) clean() {
	l.t.Helper()
	l.is("NFileDescriptorStore", "6") // web, echo, late; two of UDP; the table
}

// A Service that is gone keeps no port, though systemd has had its socket too; and one that
// comes is kept.
func TestStoreFollowsServices(t *testing.T) {
	l := newLoad(t)
	l.clean()
	l.Machine.Run("mv", "/etc/usher/manifests/web.yaml", "/etc/usher/web.yaml")
	l.is("NFileDescriptorStore", "5")
	l.Machine.Run("mv", "/etc/usher/web.yaml", "/etc/usher/manifests/web.yaml")
	l.is("NFileDescriptorStore", "6")
	l.served()
	l.crash("1")
	l.clean()
}

// With a program that cannot start, connections stand still in systemd's store until one can.
func TestRestartWithBadProgram(t *testing.T) {
	l := newLoad(t)
	l.dropIn("RestartSec=100ms")
	l.Machine.Run("mv", "/usr/bin/usher", "/usr/bin/usher.good")
	l.Push("/usr/bin/usher", "#!/bin/sh\nexit 1\n", 0o755)
	if _, err := l.Try("systemctl", "restart", "usher"); err == nil {
		t.Error("the restart succeeds")
	}
	netns.Eventually(t, "systemd tries again", func() error {
		if n := l.Property("usher", "NRestarts"); n == "0" || n == "1" {
			return fmt.Errorf("%s times", n)
		}
		return nil
	})
	l.Machine.Run("mv", "/usr/bin/usher.good", "/usr/bin/usher")
	l.is("ActiveState", "active")
	l.flows()
	l.nothingLost(t)
}

// A state that nobody can read costs the connections, and the start succeeds.
func TestRestartWithBrokenStore(t *testing.T) {
	s := newScene(t)
	s.Systemctl("start", "usher")
	client, err := s.Client.Dial("tcp", "10.96.0.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s.awaitStatus("1 Service, 1 endpoint, 1 connection")
	s.configure("manifests: [/etc/usher/manifests]", "capture: bind")
	s.Machine.Run("sed", "-i", "0,/^capture: iptables$/{//d}", "/etc/usher/config.yaml")
	s.Systemctl("restart", "usher")
	s.says("cannot go on with the connections that wait in systemd's store: they end")
	client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := client.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is open: %v", err)
	}
	s.is("NFileDescriptorStore", "2")
}

// A stop leaves nothing, whatever waited in the store, and also if usher has to be killed.
func TestStopLeavesNothing(t *testing.T) {
	l := newLoad(t)
	l.configureDrain("1s")
	l.Systemctl("restart", "usher")
	l.Systemctl("stop", "usher")
	l.finish(t)
	if n := l.Property("usher", "NFileDescriptorStore"); n != "0" || l.ruled() {
		t.Errorf("after the stop: %s files, rules: %t\n%s", n, l.ruled(), l.Journal("usher"))
	}
	if !strings.Contains(l.Journal("usher"), "reason=shutdown") {
		t.Errorf("no connection was ended with the reason shutdown:\n%s", l.Journal("usher"))
	}
	l.dropIn("TimeoutStopSec=1")
	l.Systemctl("start", "usher")
	l.Systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", "usher")
	l.Systemctl("stop", "usher")
	if l.ruled() {
		t.Errorf("rules are left after a usher that had to be killed\n%s", l.Journal("usher"))
	}
}

func (l *load) configureDrain(d string) {
	l.t.Helper()
	l.configure("manifests: [/etc/usher/manifests]", "drainTimeout: "+d)
}

// With --leave-rules a stop drains and leaves the rules.
func TestLeaveRules(t *testing.T) {
	s := newScene(t)
	s.configure("manifests: [/etc/usher/manifests]", "leaveRules: true")
	s.dropIn("ExecStopPost=")
	s.Systemctl("start", "usher")
	s.Systemctl("stop", "usher")
	if !s.ruled() {
		t.Errorf("the rules are gone\n%s", s.Journal("usher"))
	}
	if _, err := s.Client.Get(vip); err == nil {
		t.Error("a client is served by nobody")
	}
	s.Machine.Run("usher", "cleanup")
	if s.ruled() {
		t.Error("cleanup leaves rules")
	}
}
