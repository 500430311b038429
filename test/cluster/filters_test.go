package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Labels say which Services and slices are none of usher's business, from the
// start or from now on.
func TestFilters(t *testing.T) {
	c := newCluster(t)
	other, web := service("other"), service("web")
	other.Labels = map[string]string{proxyName: "mesh"}
	headless := slice(web, "headless", c.Pods[1])
	headless.Labels[corev1.IsHeadlessService] = ""
	c.api.Apply(other, slice(other, "1", c.Pods[0]), web, slice(web, "1", c.Pods[0]), headless)
	c.start()

	c.story("a Service of another proxy", func(c *cluster) {
		c.unanswered(c.Client.NS, url(other))
		c.kubectl.run(c.NS, "label", "service", "other", proxyName+"-")
		c.answers(c.Client.NS, url(other), "pod-1")
		c.kubectl.run(c.NS, "label", "service", "other", proxyName+"=") // its presence counts, not its value
		c.unanswered(c.Client.NS, url(other))
	})
	c.story("a slice of a headless Service", func(c *cluster) {
		c.answers(c.Client.NS, url(web), "pod-1")
		c.kubectl.run(c.NS, "label", "endpointslice", headless.Name, corev1.IsHeadlessService+"-")
		c.answers(c.Client.NS, url(web), "pod-1", "pod-2")
	})
}

// proxyName gives a Service to another proxy.
const proxyName = "service.kubernetes.io/service-proxy-name"
