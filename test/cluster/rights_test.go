package cluster

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/netns"
)

// usher's user lacks one of the rights that the example gives. Each is needed, and usher
// says which one it is.
func TestWithoutOneRight(t *testing.T) {
	c := newCluster(t)
	c.story("services: nothing can be served", func(c *cluster) { c.waitsForRight("services") })
	c.story("endpointslices: nothing can be served", func(c *cluster) { c.waitsForRight("endpointslices") })
	c.story("nodes: Services are served without", withoutNodes)
	c.story("events: the log tells what they would", func(c *cluster) {
		c.takeRight("create", "events")
		u := c.start()
		defer u.Stop()
		sctp := service("sctp")
		sctp.Spec.Ports[0].Protocol = corev1.ProtocolSCTP
		c.api.Apply(sctp)
		u.WaitLog("give usher's user the verbs create and patch on events")
	})
}

// waitsForRight starts usher without the right, which it is given later.
func (c *cluster) waitsForRight(resource string) {
	c.takeRight("list", resource)
	u := c.launch("--kubeconfig=" + c.api.Usher.Kubeconfig)
	defer u.Stop()
	u.WaitLog("give usher's user the verbs list and watch on " + resource)
	c.awaitReadyz(http.StatusServiceUnavailable)
	if !slices.ContainsFunc(c.api.Requests(), apiserver.Request.Denied) {
		c.t.Error("the API server does not tell what it has denied")
	}
	if code := c.status("http://127.0.0.1:10256/livez"); code != http.StatusOK { // to start it again would help nobody
		c.t.Errorf("livez answers %d", code)
	}
}

func withoutNodes(c *cluster) {
	c.takeRight("list", "nodes")
	u := c.start()
	defer u.Stop()
	u.WaitLog("usher's user may list and watch nodes")
	web := c.serve("web", c.Pods[0])
	c.answers(c.Client.NS, web, "pod-1")
	c.answers(c.Routed.NS, web, "pod-1")
}

// takeRight takes a resource out of the role of usher's user until the story ends, and waits
// until that is in force: the user has lost the verb.
func (c *cluster) takeRight(verb, resource string) {
	c.t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "usher"}}
	if err := c.api.Admin.Get(c.t.Context(), role); err != nil {
		c.t.Fatal(err)
	}
	before := role.DeepCopy()
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, resource) })
	c.api.Apply(role)
	c.t.Cleanup(func() { c.api.Apply(before) })
	user := newKubectl(c.t, c.api.Usher.Kubeconfig)
	netns.Eventually(c.t, "usher's user may not "+verb+" "+resource, func() error {
		if user.command(c.NS, "auth", "can-i", verb, resource, "--all-namespaces").Run() == nil {
			return errors.New("it still may")
		}
		return nil
	})
}
