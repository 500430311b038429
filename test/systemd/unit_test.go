package systemd

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// A start is over once Services are served, a stop leaves nothing, and the status tells how
// it is meanwhile.
func TestStartAndStop(t *testing.T) {
	s := newScene(t)
	s.Systemctl("start", "usher")
	if _, err := s.Client.Get(vip); err != nil {
		t.Errorf("systemctl start returns before the Service is served: %v", err)
	}
	s.awaitStatus("1 Service, 1 endpoint, ")
	s.Systemctl("stop", "usher")
	if result := s.Property("usher", "Result"); result != "success" || s.ruled() {
		t.Errorf("after the stop: result %s, rules are left: %t\n%s", result, s.ruled(), s.Journal("usher"))
	}
}

// Connections get --drain-timeout to end, though TimeoutStopSec= and WatchdogSec= are shorter.
func TestDrain(t *testing.T) {
	s := newScene(t)
	s.dropIn("TimeoutStopSec=2", "WatchdogSec=2")
	s.Systemctl("start", "usher")
	client, err := s.Client.Dial("tcp", "10.96.0.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s.awaitStatus("1 Service, 1 endpoint, 1 connection")
	s.Systemctl("stop", "--no-block", "usher")
	s.awaitStatus("ending: 1 connection left")
	s.lasts(5*time.Second, "deactivating")
	client.Close()
	s.is("ActiveState", "inactive")
	if result := s.Property("usher", "Result"); result != "success" || s.ruled() {
		t.Errorf("after the stop: result %s, rules are left: %t\n%s", result, s.ruled(), s.Journal("usher"))
	}
}

// A start goes on while usher gets along, also longer than TimeoutStartSec=, and it is not
// over before the first rules are there. The watchdog grants a pass that waits for another
// program the time it takes: the same holds for a change later.
func TestSlowRules(t *testing.T) {
	s := newScene(t)
	s.dropIn("TimeoutStartSec=5", "WatchdogSec=2")
	s.holdRules()
	s.Push("/run/held", "", 0o644)
	s.Systemctl("start", "--no-block", "usher")
	s.says("serving health")
	s.lasts(7*time.Second, "activating")
	if got := s.status(); !strings.HasPrefix(got, "not serving yet: ") {
		t.Errorf("the status is %q", got)
	}
	s.Machine.Run("rm", "/run/held")
	s.is("ActiveState", "active")
	s.served()

	s.Push("/run/held", "", 0o644)
	page, err := os.ReadFile(s.Path("/etc/usher/manifests/page.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.Push("/etc/usher/manifests/other.yaml", strings.NewReplacer("page", "other", "10.96.0.10", "10.96.0.11").Replace(string(page)), 0o644)
	s.lasts(5*time.Second, "active")
	s.Machine.Run("rm", "/run/held")
	netns.Eventually(t, "the second Service answers", func() error {
		_, err := s.Client.Get("http://10.96.0.11")
		return err
	})
	if n := s.Property("usher", "NRestarts"); n != "0" {
		t.Errorf("usher was restarted %s times\n%s", n, s.Journal("usher"))
	}
}

// While the API server is away a start goes on, unless --ready-timeout.
func TestNoAPIServer(t *testing.T) {
	s := newScene(t)
	s.Push("/etc/usher/kubeconfig", `
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "http://192.0.2.2:6443"}}]
contexts: [{name: lab, context: {cluster: lab}}]
current-context: lab
`, 0o600)
	s.configure("kubeconfig: /etc/usher/kubeconfig")
	s.Systemctl("start", "--no-block", "usher")
	netns.Eventually(t, "the status says what is missing", func() error {
		if got := s.status(); !strings.Contains(got, "not serving yet: waiting for ") || !strings.Contains(got, "from the API server") {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
	if state := s.Property("usher", "ActiveState"); state != "activating" {
		t.Errorf("usher is %s", state)
	}
	s.Systemctl("stop", "usher")
	s.configure("kubeconfig: /etc/usher/kubeconfig", "readyTimeout: 1s")
	s.Systemctl("start", "usher")
	s.says("after --ready-timeout=1s systemd is told that usher is ready: not serving yet: waiting for ")
	if got := s.status(); !strings.HasPrefix(got, "not serving yet: ") {
		t.Errorf("the status is %q", got)
	}
}

func TestWatchdog(t *testing.T) {
	s := newScene(t)
	s.dropIn("WatchdogSec=2")
	s.Systemctl("start", "usher")
	s.Systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", "usher")
	s.is("NRestarts", "1")
	s.says("Watchdog timeout")
	s.is("ActiveState", "active")
	s.served()
}

// What cannot be meant fails with file and line, and once if the unit says so.
func TestBadConfiguration(t *testing.T) {
	s := newScene(t)
	s.dropIn("RestartPreventExitStatus=3")
	s.configure("manifests: [/etc/usher/manifests]", "retrys: 3")
	const fault = `/etc/usher/config.yaml:6: unknown key "retrys": do you mean retries?`
	if out, err := s.Try("systemctl", "start", "usher"); err == nil {
		t.Errorf("the start succeeds: %s", out)
	}
	s.says(fault)
	if got := s.status(); !strings.Contains(got, fault) {
		t.Errorf("the status is %q", got)
	}
	s.is("ActiveState", "failed")
	if n, code := s.Property("usher", "NRestarts"), s.Property("usher", "ExecMainStatus"); n != "0" || code != "3" {
		t.Errorf("%s restarts, exit code %s", n, code)
	}
}

// Usher has the same few capabilities, whether it drops the others or the unit does, which also
// forbids capset(2) and chown(2).
func TestCapabilities(t *testing.T) {
	golden, err := os.ReadFile("../node/testdata/privileges.golden")
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t)
	for _, unit := range []string{units + "usher.service", "testdata/plain.service"} {
		s.PushFile("/etc/systemd/system/usher.service", unit, 0o644)
		s.Systemctl("daemon-reload")
		s.Systemctl("restart", "usher")
		s.served()
		status := s.Machine.Run("cat", "/proc/"+s.Property("usher", "MainPID")+"/status")
		got := strings.Join(regexp.MustCompile(`(?m)^(Cap\w+|NoNewPrivs):.*\n`).FindAllString(status, -1), "")
		if got != string(golden) {
			t.Errorf("with %s usher has\n%swant\n%s", unit, got, golden)
		}
	}
}
