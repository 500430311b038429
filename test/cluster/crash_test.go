package cluster

import "testing"

// usher crashes; while it is away the Service that came first goes, and another
// one comes. Those that stay keep their listener ports, although an usher that
// knew nothing would give them others.
func TestListenerPortsOutliveACrash(t *testing.T) {
	c := newCluster(t)
	u := c.start()
	urls := map[string]string{}
	for _, name := range []string{"first", "second", "third"} {
		urls[name] = c.serve(name, c.Pods[0])
		c.answers(c.Client.NS, urls[name], "pod-1")
	}
	before := c.listenerPorts()
	u.Kill()
	c.api.Delete(service("first"))
	urls["yet-another"] = c.serve("yet-another", c.Pods[1])

	c.start()
	c.answers(c.Client.NS, urls["second"], "pod-1")
	c.answers(c.Client.NS, urls["third"], "pod-1")
	c.answers(c.Client.NS, urls["yet-another"], "pod-2")
	c.unanswered(c.Client.NS, urls["first"])
	after := c.listenerPorts()
	for _, service := range []string{"default/kubernetes:https", "default/second:http", "default/third:http"} {
		if before[service] == 0 || after[service] != before[service] {
			t.Errorf("the listener port of %s is %d, and was %d", service, after[service], before[service])
		}
	}
}
