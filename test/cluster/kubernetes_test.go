package cluster

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Every pod finds the API server at the first Service address. usher serves that
// one like any other: its endpoint is a process of the node, which the API
// server itself has published.
func TestPodsReachTheAPIServerThroughItsService(t *testing.T) {
	c := newCluster(t)
	u := c.start()
	const kubernetes = "https://10.96.0.1"
	login := c.login()
	for _, ns := range []*netns.NS{c.Client.NS, c.Routed.NS, c.NS} {
		if answer, err := curl(ns, kubernetes+"/readyz", login...); err != nil || answer != "ok" {
			t.Errorf("from %s: %q, %v", ns.Name, answer, err)
		}
	}
	if services := c.kubectl.run(c.Client.NS, "--server="+kubernetes, "get", "services", "-o=name"); !strings.Contains(services, "service/kubernetes") {
		t.Errorf("kubectl in a pod sees the Services %q", services)
	}
	for _, r := range u.Records(4, func(r usher.Record) bool { return r.Service == "kubernetes" }) {
		if r.VIP != "10.96.0.1" || r.VIPPort != 443 || r.BackendIP != "192.0.2.1" || r.BackendPort != 6443 {
			t.Errorf("a record says %+v", r)
		}
	}
}

// login is what curl needs to trust the API server, and to be trusted.
func (c *cluster) login() []string {
	c.t.Helper()
	return []string{"--cacert", c.caFile(), "--header", "Authorization: Bearer " + c.api.Usher.Token}
}

// caFile is a file with the API server's CA.
func (c *cluster) caFile() string {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "ca.crt")
	write(c.t, path, string(c.api.CA))
	return path
}
