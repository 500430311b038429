package cluster

import (
	"errors"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// usher's user may not read nodes. Services can be served without.
func TestWithoutRightsOnNodes(t *testing.T) {
	c := newCluster(t)
	c.takeRights("nodes")
	u := c.start()
	u.WaitLog("usher's user may list and watch nodes")
	web := c.serve("web", c.Pods[0])
	c.answers(c.Client.NS, web, "pod-1")
	c.answers(c.Routed.NS, web, "pod-1")
}

// takeRights changes the role of usher's user, and waits until that is in force.
func (c *cluster) takeRights(resource string) {
	c.t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "usher"}}
	if err := c.api.Admin.Get(c.t.Context(), role); err != nil {
		c.t.Fatal(err)
	}
	for i, rule := range role.Rules {
		role.Rules[i].Resources = slices.DeleteFunc(rule.Resources, func(r string) bool { return r == resource })
	}
	c.api.Apply(role)
	netns.Eventually(c.t, "usher's user may not list nodes", func() error {
		err := c.api.Usher.List(c.t.Context(), &corev1.NodeList{}, "")
		if apierrors.IsForbidden(err) {
			return nil
		}
		return errors.Join(errors.New("not forbidden"), err)
	})
}
