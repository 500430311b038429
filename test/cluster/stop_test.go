package cluster

import (
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/usher"
)

// usher stops, and later crashes. Either way the node can be made as it was,
// whatever others have there.
func TestNothingIsLeft(t *testing.T) {
	c := newCluster(t)
	c.rulesOfOthers()
	before := c.rules()
	web := c.serve("web", c.Pods...)

	u := c.start()
	c.answers(c.Routed.NS, web, "pod-1", "pod-2", "pod-3")
	if code := u.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if after := c.rules(); after != before {
		t.Errorf("usher leaves the rules\n%s\nit found\n%s", after, before)
	}

	c.start().Kill()
	if !strings.Contains(c.rules(), "default/web:http") {
		t.Fatal("a crash leaves no rules: there is nothing to clean")
	}
	for range 2 {
		cleanup := usher.Launch(t, c.NS, "cleanup")
		if code := cleanup.Wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, cleanup.Log())
		}
		if after := c.rules(); after != before {
			t.Errorf("cleanup leaves the rules\n%s\nbefore usher they were\n%s", after, before)
		}
	}
}

// rulesOfOthers gives the node what somebody else might have there.
func (c *cluster) rulesOfOthers() {
	c.t.Helper()
	c.Run("iptables", "-N", "KUBE-FIREWALL")
	c.Run("iptables", "-A", "INPUT", "-j", "KUBE-FIREWALL")
	c.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.244.0.0/16", "-o", "eth0", "-j", "MASQUERADE")
	c.Run("ip6tables", "-A", "FORWARD", "-m", "comment", "--comment", "no USHER- here", "-j", "ACCEPT")
}
