package cluster

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/usher"
)

// Somebody puts usher in the place of kube-proxy as the example does it, with nothing to
// say but where the API server and the image are. With the rights of its ServiceAccount and the
// privileges of its container usher has all it asks for, and nothing beyond.
func TestDaemonSet(t *testing.T) {
	c := newCluster(t)
	k := c.deploy(c.ownVariant())
	if k.spec.Image != "registry.internal/usher:v1.2.3" {
		t.Errorf("the image is %s", k.spec.Image)
	}
	golden(t, "daemonset-can-i.golden", c.rightsOf(ours, "usher"))
	check := k.run("check", "--node-name=node")
	check.WaitLog("CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE")
	if code := check.Wait(); code != 0 {
		t.Errorf("usher check ended with %d:\n%s", code, check.Log())
	}

	before := len(c.api.Requests())
	u := k.start()
	web := c.serve("web", c.Pods[0])
	c.answers(c.Client.NS, web, "pod-1")
	c.answers(c.NS, web, "pod-1")
	c.tellsTwice(u)
	golden(t, "daemonset-privileges.golden", privileges(t, u.PID()))
	if out, stderr, code := usher.Run(t, c.NS, "status"); code != 0 {
		t.Errorf("usher status on the node ended with %d: %s%s", code, out, stderr)
	}
	if code := u.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// A list is what older API servers are asked for, and one that fails to stream it.
	golden(t, "daemonset-requests.golden", c.asked(before))
	for line := range strings.Lines(u.Log()) {
		warns := strings.Contains(line, `"level":"warning"`) || strings.Contains(line, `"level":"error"`)
		if warns && !strings.Contains(line, "Service default/sctp") {
			t.Errorf("usher warns: %s", line)
		}
	}
	if left := c.allRules(); strings.Contains(left, "USHER-") {
		t.Errorf("usher leaves\n%s", left)
	}
}

// Beside kube-proxy, which serves the API server's Service, there is nothing to say at all.
func TestDaemonSetBesideKubeProxy(t *testing.T) {
	c := newCluster(t)
	c.redirectKubernetes()
	c.deploy(filepath.Join(examples, "beside-kube-proxy")).start()
	c.serve("theirs", c.Pods[0])
	mine := service("mine")
	mine.Labels = map[string]string{proxyName: "usher"}
	endpoints := slice(mine, "1", c.Pods[1])
	endpoints.Labels[proxyName] = "usher"
	c.api.Apply(mine, endpoints)
	c.answers(c.Client.NS, url(mine), "pod-2")
	if rules := c.allRules(); !strings.Contains(rules, "default/mine") || strings.Contains(rules, "default/theirs") {
		t.Errorf("usher does not serve just what is its own:\n%s", rules)
	}
}

// deploy applies a kustomization, and makes the container of its DaemonSet.
func (c *cluster) deploy(kustomization string) *container {
	c.t.Helper()
	c.kubectl.run(c.NS, "apply", "--server-side", "-k", kustomization)
	return c.newContainer(c.daemonSet("get", "daemonsets", "--namespace="+ours))
}

// tellsTwice has usher write an Event, and count it once more.
func (c *cluster) tellsTwice(u *usher.Process) {
	c.t.Helper()
	plain, sctp := service("sctp"), service("sctp")
	sctp.Spec.Ports = append(sctp.Spec.Ports, corev1.ServicePort{Name: "diameter", Port: 3868, Protocol: corev1.ProtocolSCTP})
	c.api.Apply(sctp.DeepCopy())
	c.isTold("sctp", "NotServed", "SCTP")
	c.api.Apply(plain)
	u.WaitLog("no longer: port diameter")
	c.api.Apply(sctp)
	c.isTold("sctp", "NotServed", "SCTP", "(x2 over")
}

// ownVariant is a kustomization as users have one: on top of the example.
func (c *cluster) ownVariant() string {
	c.t.Helper()
	dir := c.t.TempDir()
	example, err := filepath.Abs(filepath.Join(examples, "instead-of-kube-proxy"))
	if err == nil {
		example, err = filepath.Rel(dir, example)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	write(c.t, filepath.Join(dir, "kustomization.yaml"), fmt.Sprintf(`
resources: [%s]
images:
- name: registry.example.com/usher
  newName: registry.internal/usher
  newTag: v1.2.3
configMapGenerator:
- name: usher-apiserver
  namespace: kube-system
  behavior: merge
  literals: [KUBERNETES_SERVICE_HOST=192.0.2.1]
`, example))
	return dir
}

// rightsOf is what an account may do, as "kubectl auth can-i --list" shows it.
func (c *cluster) rightsOf(namespace, account string) string {
	c.t.Helper()
	k := kubectl{c.kubectl.program, []string{
		"--server=" + c.api.URL, "--certificate-authority=" + c.caFile(), "--cache-dir=" + c.t.TempDir(),
		"--token=" + strings.TrimSpace(c.kubectl.run(c.NS, "create", "token", account, "--namespace="+namespace)),
	}}
	return k.run(c.NS, "auth", "can-i", "--list", "--namespace="+namespace)
}

// asked is what usher has asked of the API server since the first so many requests, each
// thing once, in order. It fails the test if something was denied.
func (c *cluster) asked(before int) string {
	c.t.Helper()
	all := map[string]bool{}
	for _, r := range c.api.Requests()[before:] {
		if r.Denied() {
			c.t.Errorf("usher was denied to %s", r.What)
		}
		all[r.What+"\n"] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), "")
}

// privileges is what the kernel says of a process' capabilities (proc(5)).
func privileges(t *testing.T, pid int) (found string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Uid") {
			found += line
		}
	}
	return found
}
