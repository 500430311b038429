package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/conformance"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// How somebody tries usher on a live cluster: it runs beside kube-proxy, and one
// label moves a Service to it and back. It may even reach the API server through
// the Service that kube-proxy serves.
func TestBesideKubeProxy(t *testing.T) {
	c := newCluster(t)
	c.applyNodeOfKubeProxy()
	kubeProxy{kubeProxyProgram(t), c.api.Admin.Kubeconfig, "iptables"}.Start(t, c.Node, conformance.Options{SyncPeriod: 30 * time.Second})
	web := service("web")
	c.api.Apply(web, slice(web, "1", c.RoutedServer))
	c.answers(c.Client.NS, url(web), "routed-server")
	rules := c.rulesOf("KUBE-")

	u := usher.Launch(t, c.NS, append([]string{"run", "--log-format=json", "--service-proxy-name=usher", "--master=https://10.96.0.1"},
		onNode([]string{"--kubeconfig=" + c.api.Usher.Kubeconfig})...)...)
	u.WaitLog("serving health")
	u.WaitLog("has 0 Services to serve")
	c.answers(c.Client.NS, url(web), "routed-server")

	for range 2 {
		c.kubectl.run(c.NS, "label", "service", "web", proxyName+"=usher")
		c.awaitRules("usher serves it, and kube-proxy does not", "USHER-", "KUBE-")
		before := len(u.Records(0, isWeb))
		c.answers(c.Client.NS, url(web), "routed-server")
		c.answers(c.Routed.NS, url(web), "routed-server")
		c.answers(c.NS, url(web), "routed-server")
		u.Records(before+3, isWeb)

		c.kubectl.run(c.NS, "label", "service", "web", proxyName+"-")
		c.awaitRules("kube-proxy serves it, and usher does not", "KUBE-", "USHER-")
		c.answers(c.Client.NS, url(web), "routed-server")
	}
	if code := u.Stop(); code != 0 {
		t.Errorf("usher ended with exit code %d", code)
	}
	if left := c.rulesOf("USHER-"); left != "" {
		t.Errorf("rules of usher are left:\n%s", left)
	}
	if after := c.rulesOf("KUBE-"); after != rules {
		t.Errorf("kube-proxy's rules were\n%s\nand are\n%s", rules, after)
	}
}

func isWeb(r usher.Record) bool { return r.Service == "web" }

// rulesOf are the rules of one proxy that are about the Service web, or lead to
// that proxy's.
func (c *cluster) rulesOf(prefix string) string {
	var mine []string
	for _, line := range strings.Split(c.Run("iptables-save"), "\n") {
		if strings.HasPrefix(line, "-A "+prefix) && strings.Contains(line, "default/web") {
			mine = append(mine, line)
		}
	}
	return strings.Join(mine, "\n")
}

func (c *cluster) awaitRules(what, has, lacks string) {
	c.t.Helper()
	netns.EventuallyWithin(c.t, slowly, what, func() error {
		if rules := c.rulesOf(lacks); rules != "" {
			return fmt.Errorf("there still is\n%s", rules)
		}
		if c.rulesOf(has) == "" {
			return errors.New("there are no rules for it")
		}
		return nil
	})
}
