package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/conformance"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// given a kube-proxy that runs, then usher does not start, check tells why, and
// cleanup leaves its rules; when it was killed, cleanup removes all that it wrote, and
// nothing else, and usher starts.
func TestInPlaceOfKubeProxy(t *testing.T) {
	for name, mode := range map[string]string{"iptables-nft": "iptables", "iptables-legacy": "iptables", "nftables": "nftables"} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "iptables-") {
				netns.UseIPTables(t, strings.TrimPrefix(name, "iptables-"))
			} else if _, err := exec.LookPath("nft"); err != nil {
				t.Skip(err)
			}
			inPlaceOfKubeProxy(t, mode)
		})
	}
}

func inPlaceOfKubeProxy(t *testing.T, mode string) {
	c := newCluster(t)
	c.applyNodeOfKubeProxy()
	web := service("web")
	c.api.Apply(web, slice(web, "1", c.RoutedServer))
	for _, table := range []string{"nat", "filter", "mangle"} { // so that they exist, with something in them
		c.Run("iptables", "-t", table, "-A", "OUTPUT", "-p", "tcp", "--dport", "99", "-m", "comment", "--comment", "mine", "-j", "ACCEPT")
		c.Run("ip6tables", "-t", table, "-N", "MINE")
	}
	before := c.allRules()

	k := kubeProxy{kubeProxyProgram(t), c.api.Admin.Kubeconfig, mode}
	args := k.args(c.Node, conformance.Options{SyncPeriod: 30 * time.Second})
	running := c.Command(context.Background(), k.program, args...)
	log := &strings.Builder{}
	running.Stdout, running.Stderr = log, log
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	c.answers(c.Client.NS, url(web), "routed-server")

	args = onNode([]string{"--kubeconfig=" + c.api.Usher.Kubeconfig})
	refused := func(says string) {
		t.Helper()
		stdout, stderr, code := usher.Run(t, c.NS, append([]string{"run"}, args...)...)
		if code != 1 || !strings.Contains(stderr, says) {
			t.Errorf("usher run ends with %d, want 1 and %q: %s%s", code, says, stdout, stderr)
		}
	}
	pid := fmt.Sprintf("kube-proxy runs (process %d) and serves Services", running.Process.Pid)
	refused(pid)
	report, _, code := usher.Run(t, c.NS, append([]string{"check"}, args...)...)
	if code != 1 || !strings.Contains(report, pid) || !strings.Contains(report, "allows what usher needs; it has 2 Services") {
		t.Errorf("usher check ends with %d: %s", code, report)
	}
	if _, stderr, code := usher.Run(t, c.NS, "cleanup", "--kube-proxy"); code != 1 || !strings.Contains(stderr, "would write its rules again") {
		t.Errorf("beside a kube-proxy that runs, cleanup ends with %d: %s", code, stderr)
	}
	c.answers(c.Client.NS, url(web), "routed-server")

	running.Process.Kill()
	running.Wait()
	c.answers(c.Client.NS, url(web), "routed-server") // its rules go on without it
	refused("does not seem to run")
	stdout, stderr, code := usher.Run(t, c.NS, "cleanup", "--kube-proxy")
	if code != 0 || strings.Contains(stdout, "stays") {
		t.Errorf("cleanup ends with %d: %s%s", code, stdout, stderr)
	}
	if after := c.allRules(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s\nkube-proxy said:\n%s", before, after, log)
	}
	u := usher.Start(t, c.NS, args...)
	c.answers(c.Client.NS, url(web), "routed-server")
	u.Stop()
}

// allRules are those of all tables, but for the kubelet's, of which kube-proxy makes a
// copy that it leaves, too; and without what changes by itself.
func (c *cluster) allRules() string {
	var kept []string
	for _, program := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		if _, err := exec.LookPath(program); err != nil {
			continue
		}
		for line := range strings.Lines(c.Run(program)) {
			line, _, _ = strings.Cut(line, " [")
			builtIn := strings.HasPrefix(line, ":") && !strings.HasSuffix(line, " -") || strings.HasPrefix(line, "*") || strings.HasPrefix(line, "COMMIT")
			if !strings.HasPrefix(line, "#") && !strings.Contains(line, "KUBE-FIREWALL") && !builtIn {
				kept = append(kept, program+" "+strings.TrimSpace(line))
			}
		}
	}
	if _, err := exec.LookPath("nft"); err == nil {
		kept = append(kept, c.Run("nft", "list", "tables", "ip"), c.Run("nft", "list", "tables", "ip6"))
	}
	return strings.Join(kept, "\n")
}
