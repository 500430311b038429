package cluster

import (
	"testing"

	"github.com/usher-proxy/usher/test/usher"
)

// The main job. Somebody applies a Service; curl gets answers in every place,
// and goes on to get them while the endpoints change in every way.
func TestCurlGetsAnswersWhileEndpointsChange(t *testing.T) {
	c := newCluster(t)
	u := c.start()
	c.kubectl.run(c.NS, "apply", "-f", "testdata/web.yaml")
	vip := c.kubectl.run(c.NS, "get", "service", "web", "-o=jsonpath={.spec.clusterIP}")
	places := []*place{
		{from: c.Client.NS, url: "http://" + vip},
		{from: c.Routed.NS, url: "http://" + vip},
		{from: c.NS, url: "http://" + vip},
		{from: c.Node.Client, url: "http://192.0.2.1:30080"},
	}
	for _, p := range places {
		c.answers(p.from, p.url, "pod-1", "pod-2", "pod-3")
	}

	curls := c.ask(places...)
	curls.goOn()
	c.kubectl.run(c.NS, "delete", "endpointslice", "web-b")
	c.answers(c.Client.NS, "http://"+vip, "pod-1")
	curls.goOn()
	c.kubectl.run(c.NS, "apply", "-f", "testdata/other-pods.yaml")
	c.answers(c.Client.NS, "http://"+vip, "pod-2", "pod-3")
	curls.goOn()
	c.kubectl.run(c.NS, "patch", "endpointslice", "web-a", "--type=json", `-p=[{"op": "replace", "path": "/ports/0/port", "value": 8081}]`)
	c.answers(c.Client.NS, "http://"+vip, "pod-2-alt", "pod-3-alt")
	curls.goOn()
	answered := curls.stop()
	t.Logf("%d curls were answered while the endpoints changed", answered)
	checkRecords(t, u.Records(answered, func(r usher.Record) bool { return r.Service == "web" }), vip)
}

// checkRecords expects that every connection is told with its pod, and with the
// address that its client has dialled.
func checkRecords(t *testing.T, records []usher.Record, vip string) {
	t.Helper()
	pods := map[string]string{"10.244.1.2": "default/pod-1", "10.244.1.3": "default/pod-2", "10.244.1.4": "default/pod-3"}
	for _, r := range records {
		frontend := usher.Record{VIP: vip, VIPPort: 80, VIPKind: "cluster"}
		if r.ClientIP == "192.0.2.2" {
			frontend = usher.Record{VIP: "192.0.2.1", VIPPort: 30080, VIPKind: "node_port"}
		}
		if r.VIP != frontend.VIP || r.VIPPort != frontend.VIPPort || r.VIPKind != frontend.VIPKind {
			t.Errorf("%s has dialled %s:%d (%s) says a record, want %s:%d (%s)",
				r.ClientIP, r.VIP, r.VIPPort, r.VIPKind, frontend.VIP, frontend.VIPPort, frontend.VIPKind)
		}
		if r.Reason != "ok" || r.NS != "default" || r.Port != "http" || r.BackendPod != pods[r.BackendIP] || r.BackendPod == "" {
			t.Errorf("a record says %+v", r)
		}
	}
}
