package cluster

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/conformance"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// cluster is the node of the conformance cases, with three pods that serve and
// two that do not, and an API server on it. usher does not run yet.
type cluster struct {
	*conformance.World
	t       *testing.T
	api     *apiserver.ControlPlane
	kubectl kubectl
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{World: conformance.NewWorld(t), t: t}
	c.api = apiserver.Start(t, c.NS, netns.NodeIPv4)
	c.api.Apply(ownNode())
	c.kubectl = newKubectl(t, c.api.Admin.Kubeconfig)
	return c
}

// story runs one of several tests that share a cluster. What it starts it has to
// stop, and what it changes on the node it has to change back.
func (c *cluster) story(name string, tell func(*cluster)) {
	c.t.Run(name, func(t *testing.T) {
		own := *c
		own.t = t
		tell(&own)
	})
}

// ownNode is the object of the node, as kubelet would write it.
func ownNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: netns.NodeIPv4.String()},
		}},
	}
}

// start runs usher as its user and waits until it serves.
func (c *cluster) start() *usher.Process {
	c.t.Helper()
	return c.startWith("--kubeconfig=" + c.api.Usher.Kubeconfig)
}

// startWith is start, with flags that say where the API server is.
func (c *cluster) startWith(source ...string) *usher.Process {
	c.t.Helper()
	return usher.Start(c.t, c.NS, onNode(source)...)
}

// launch is startWith for an usher that may not come to serve.
func (c *cluster) launch(source ...string) *usher.Process {
	c.t.Helper()
	return usher.Launch(c.t, c.NS, append([]string{"run", "--log-format=json"}, onNode(source)...)...)
}

func onNode(source []string) []string {
	return append([]string{"--node-name=node", "--capture=iptables"}, source...)
}

// readyz is the status code of usher's readiness, 0 if it cannot be asked.
func (c *cluster) readyz() int { return c.status("http://127.0.0.1:10256/readyz") }

// status is the status code of a URL on the node.
func (c *cluster) status(url string) int {
	resp, err := c.HTTPClient().Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// awaitReadyz waits until the readiness has this status code.
func (c *cluster) awaitReadyz(code int) {
	c.t.Helper()
	netns.EventuallyWithin(c.t, slowly, fmt.Sprintf("readyz answers %d", code), func() error {
		if got := c.readyz(); got != code {
			return fmt.Errorf("it answers %d", got)
		}
		return nil
	})
}
