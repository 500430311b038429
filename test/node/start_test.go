package node

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/usher"
)

// launch runs a verb of usher on the node's manifests, ready or not.
func (s *scene) launch(verb string, args ...string) *usher.Process {
	s.t.Helper()
	if verb == "run" {
		args = s.args(args...)
	}
	return usher.Launch(s.t, s.NS, append([]string{verb}, args...)...)
}

func TestBrokenFileHarmsNoOther(t *testing.T) {
	s := newScene(t)
	s.write("good.yaml", manifest("good", 10, 30080, s.pods[0].IPv4))
	broken := strings.Replace(manifest("broken", 11, 30081, s.pods[0].IPv4), "clusterIP:", "clusterIPP:", 1)
	s.write("broken.yaml", broken+"---\n"+manifest("after", 12, 30082, s.pods[0].IPv4))
	u := s.start()
	served(t, s.client.NS, vip(10))
	served(t, s.client.NS, vip(12))
	u.WaitLog("broken.yaml:7")
	u.WaitLog("spec.clusterIPP")
	if connect(t, s.client.NS, vip(11)) == nil {
		t.Error("the broken Service is served out of nowhere")
	}

	s.write("broken.yaml", manifest("broken", 11, 30081, s.pods[0].IPv4))
	served(t, s.client.NS, vip(11))
	// A typo does not take a Service down.
	s.write("good.yaml", "apiVersion: v1\nkind: [")
	u.WaitLog("good.yaml:2")
	for range 10 {
		if _, err := s.client.Get(vip(10)); err != nil {
			t.Fatalf("a Service was lost by a typo in its file: %v", err)
		}
	}
}

func TestAutoFallsBackToBindAndSaysWhy(t *testing.T) {
	s := newScene(t)
	backend := s.ServeHTTP("backend", netip.MustParseAddrPort("127.0.0.1:0"))
	s.write("web.yaml", strings.NewReplacer("10.96.0.10", "127.96.0.10", "port: 8080", fmt.Sprintf("port: %d", backend.Addr.Port())).
		Replace(manifest("web", 10, 30080, backend.Addr.Addr())))
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	u := usher.Start(t, s.NS, "--manifests="+s.folder, "--capture=auto")
	served(t, s.NS, "http://127.96.0.10")
	u.WaitLog("capture=bind, because iptables cannot be used")
	u.WaitLog("executable file not found")
	served(t, s.NS, "http://127.0.0.1:30080")
	served(t, s.Client, "http://192.0.2.1:30080")
}

// What usher leaves, after a stop in good order and after a crash.
func TestNothingIsLeft(t *testing.T) {
	s := newScene(t)
	s.Run("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "99", "-j", "REDIRECT", "--to-ports", "98")
	s.Run("ip6tables", "-A", "INPUT", "-p", "tcp", "--dport", "99", "-m", "comment", "--comment", "USHER-lookalike", "-j", "ACCEPT")
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	first := s.start()
	served(t, s.routed.NS, vip(10))
	if code := first.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	before := s.rules() // with the built-in chains that usher was first to touch
	if strings.Contains(strings.ReplaceAll(before, "USHER-lookalike", ""), "USHER") {
		t.Errorf("after a stop in good order there is left\n%s", before)
	}

	s.start().Kill()
	if s.rules() == before {
		t.Fatal("a crash left no rules: this test proves nothing")
	}
	for range 2 {
		cleanup := s.launch("cleanup")
		if code := cleanup.Wait(); code != 0 {
			t.Errorf("cleanup ends with %d: %s", code, cleanup.Log())
		}
		if after := s.rules(); after != before {
			t.Errorf("after cleanup the rules are\n%s\nthey were\n%s", after, before)
		}
	}
}

// rules are all rules of the node, without counters and times.
func (s *scene) rules() string {
	var kept []string
	for _, line := range strings.Split(s.Run("iptables-save")+s.Run("ip6tables-save"), "\n") {
		if !strings.HasPrefix(line, "#") {
			line, _, _ = strings.Cut(line, " [")
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// The two folders that do not exist, and what else cannot be meant.
func TestImpossibleCommandLines(t *testing.T) {
	s := newScene(t)
	missing := filepath.Join(s.folder, "missing")
	if err := os.WriteFile(filepath.Join(s.folder, "kubeconfig"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"run", "--manifests=" + missing}, 1, missing},
		{[]string{"run", "--manifests=" + s.folder, "--master=10.0.0.1"}, 3, "cannot be combined"},
		{[]string{"run", "--no-such-flag"}, 3, "unknown flag: --no-such-flag"},
		{[]string{"run", "stray"}, 3, `unexpected argument "stray"`},
		{[]string{"run", "--capture=magic"}, 3, "--capture=magic: want auto, iptables or bind"},
		{[]string{"run", "--balancer=magic"}, 3, "round-robin"},
		{[]string{"run", "--connect-timeout=20s"}, 3, "want at most total-connect-timeout, which is 10s"},
		{[]string{"run", "--connect-timeout=soon"}, 3, "connect-timeout"},
		{[]string{"run", "--proxy-port-range=5-1"}, 3, "--proxy-port-range"},
		{[]string{"run", "--mark=0x1/0x2"}, 3, "--mark"},
		{[]string{"run", "--retries=9"}, 3, "--retries=9: want 0 to 8"},
		{[]string{"run", "--log-format=xml"}, 3, "--log-format"},
		{[]string{"run", "-v", "2", "--log-level=debug"}, 3, "are the same"},
		{[]string{"run", "--capture=bind", "--mark=0x1000"}, 3, "--capture=bind has none"},
		{[]string{"run", "--healthz-bind-address=garbage"}, 3, "--healthz-bind-address=garbage: want ADDRESS:PORT"},
		{[]string{"run", "--metrics-bind-address=localhost:x"}, 3, "--metrics-bind-address"},
		{[]string{"magic"}, 3, "unknown command"},
	} {
		u := usher.Launch(t, s.NS, c.args...)
		if code := u.Wait(); code != c.code {
			t.Errorf("usher %v: exit code %d, want %d", c.args, code, c.code)
		}
		u.WaitLog(c.says)
	}
}
