package systemd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
)

// What is served goes on in another process: bytes under way, connections half closed or
// stalled, UDP sessions; who comes meanwhile waits.
func TestRestart(t *testing.T) {
	l := newBusy(t, load.Small)
	for _, how := range []string{"restart", "try-restart", "restart"} {
		l.another(how, "usher")
		l.Flows()
	}
	// As a part of another unit.
	l.Push("/etc/systemd/system/other.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n", 0o644)
	l.Push("/etc/systemd/system/usher.service.d/other.conf", "[Unit]\nPartOf=other.service\n", 0o644)
	l.Systemctl("daemon-reload")
	l.Systemctl("start", "other")
	l.another("restart", "other")
	l.Flows()
	l.Tell()
}

// A restart may come at any time of the start before.
func TestRestartDuringStart(t *testing.T) {
	l := newBusy(t, load.Small)
	for i := range 12 {
		l.Systemctl("restart", "--no-block", "usher")
		time.Sleep(time.Duration(i) * 50 * time.Millisecond) // into another moment each time
	}
	l.Systemctl("restart", "usher")
	l.Flows()
	l.Tell()
}

// systemctl reload has the program that is there now take over, in the same process.
func TestReload(t *testing.T) {
	l := newBusy(t, load.Small)
	pid := l.Property("usher", "MainPID")
	for range 3 {
		l.Systemctl("reload", "usher")
		l.Flows()
	}
	if now := l.Property("usher", "MainPID"); now != pid {
		t.Errorf("process %s became %s", pid, now)
	}
	l.Push("/etc/usher/config.yaml", "retrys: 3\n", 0o644)
	if _, err := l.Try("systemctl", "reload", "usher"); err == nil {
		t.Error("a reload succeeds with a configuration that cannot be meant")
	}
	l.Flows()
	l.Tell()
}

// In the moment of an upgrade in place everything is in the store, too: a program that has
// proved itself and then dies at once costs nothing.
func TestCrashWithinUpgrade(t *testing.T) {
	l := newBusy(t, load.Small)
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
	l.Flows()
	l.Tell()
}

// clean waits until the store has nothing but the sockets that serve, and their table.
func (l *busy) clean() {
	l.t.Helper()
	l.is("NFileDescriptorStore", "12") // page; bulk, web and database by both families, and names by two sockets each; the table
}

// A Service that is gone keeps no port, though systemd has had its socket too; and one that
// comes is kept.
func TestStoreFollowsServices(t *testing.T) {
	l := newBusy(t, load.Small)
	l.clean()
	l.Machine.Run("mv", "/etc/usher/manifests/page.yaml", "/etc/usher/page.yaml")
	l.is("NFileDescriptorStore", "11")
	l.Machine.Run("mv", "/etc/usher/page.yaml", "/etc/usher/manifests/page.yaml")
	l.is("NFileDescriptorStore", "12")
	l.served()
	l.crash("1")
	l.clean()
}

// With a program that cannot start, connections stand still in systemd's store until one can.
func TestRestartWithBadProgram(t *testing.T) {
	l := newBusy(t, load.Small)
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
	l.Flows()
	l.Tell()
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
	l := newBusy(t, load.Small)
	l.configureDrain("1s")
	l.Systemctl("restart", "usher")
	l.Systemctl("stop", "usher")
	l.End()
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

func (l *busy) configureDrain(d string) {
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
