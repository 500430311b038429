package cluster

import "github.com/usher-proxy/usher/test/usher"

// The address of the API server may be a Service address: kubelet tells every
// pod the one of default/kubernetes. usher would wait there for the API server
// until usher itself serves it. Better to say that at once.

// ownServiceOnly: the author of the DaemonSet has not set another address.
func ownServiceOnly(c *cluster) {
	c.Run("ip", "route", "add", "unreachable", "10.96.0.1") // else every try ends with a timeout
	c.t.Cleanup(func() { c.Run("ip", "route", "delete", "unreachable", "10.96.0.1") })
	c.inPod()
	c.refusesToStart("KUBERNETES_PORT in the environment")
}

// ownServiceAfterCrash: here it is the rules that tell whose address it is, and
// they lead nowhere.
func ownServiceAfterCrash(c *cluster) {
	c.start().Kill()
	c.t.Cleanup(func() { usher.Launch(c.t, c.NS, "cleanup").Wait() })
	c.refusesToStart("rules that an earlier usher left",
		"--kubeconfig="+c.api.Usher.Kubeconfig, "--master=https://10.96.0.1")
}

// refusesToStart expects usher to end and to tell why, whose address it was
// given, and the two ways to give another.
func (c *cluster) refusesToStart(why string, source ...string) {
	c.t.Helper()
	u := c.launch(source...)
	if code := u.Wait(); code != 1 {
		c.t.Errorf("exit code %d", code)
	}
	for _, text := range []string{why, "10.96.0.1:443", "default/kubernetes", "--master", "KUBERNETES_SERVICE_HOST"} {
		u.WaitLog(text)
	}
}

// redirectKubernetes lets somebody else serve default/kubernetes on the node.
func (c *cluster) redirectKubernetes() {
	c.t.Helper()
	rule := []string{"OUTPUT", "-d", "10.96.0.1", "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination", "192.0.2.1:6443"}
	c.Run("iptables", append([]string{"-t", "nat", "-A"}, rule...)...)
	c.t.Cleanup(func() { c.Run("iptables", append([]string{"-t", "nat", "-D"}, rule...)...) })
}
