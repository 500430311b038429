package cluster

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/test/usher"
)

const (
	examples = "../../examples/kubernetes"
	ours     = "kube-system" // the namespace they are in
)

var update = flag.Bool("update", false, "write the golden files")

// The API server takes every variant of the example, and knows each field of it.
func TestExampleIsValid(t *testing.T) {
	c := newCluster(t)
	for _, variant := range []string{"base", "beside-kube-proxy", "instead-of-kube-proxy"} {
		c.story(variant, func(c *cluster) {
			dir := filepath.Join(examples, variant)
			c.check(c.daemonSet(dryRun("-k", dir)...))
		})
	}
	c.story("not one with an unknown field", func(c *cluster) {
		rendered := c.kubectl.run(c.NS, "kustomize", filepath.Join(examples, "base"))
		wrong := filepath.Join(c.t.TempDir(), "wrong.yaml")
		write(c.t, wrong, strings.Replace(rendered, "hostNetwork:", "hostNetworks:", 1))
		out, err := c.kubectl.command(c.NS, dryRun("-f", wrong)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "hostNetworks") {
			c.t.Errorf("%v\n%s", err, out)
		}
	})
}

func dryRun(what ...string) []string {
	return append([]string{"apply", "--server-side", "--dry-run=server", "--validate=strict"}, what...)
}

// daemonSet is the one that a kubectl command prints, with the API server's defaults.
func (c *cluster) daemonSet(args ...string) *appsv1.DaemonSet {
	c.t.Helper()
	var answer struct{ Items []json.RawMessage }
	out := c.kubectl.run(c.NS, append(args, "--output=json")...)
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		c.t.Fatal(err)
	}
	for _, item := range answer.Items {
		ds := &appsv1.DaemonSet{}
		if err := json.Unmarshal(item, ds); err == nil && ds.Kind == "DaemonSet" {
			return ds
		}
	}
	c.t.Fatalf("there is no DaemonSet in\n%s", out)
	return nil
}

// check looks for what the API server does not mind.
func (c *cluster) check(ds *appsv1.DaemonSet) {
	t := c.t
	t.Helper()
	pod := ds.Spec.Template.Spec
	container := pod.Containers[0]
	// The scheduler has no room for two Pods with the same hostPort on a node.
	if surge, ports := ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge, c.hostPorts(ds); surge.IntValue() != 1 || len(ports) > 0 {
		t.Errorf("maxSurge %v, host ports %v", surge, ports)
	}
	// Two on a node must know of each other.
	help, _, _ := usher.Run(t, c.NS, "run", "--help")
	const takeOver = "--take-over"
	if can, does := strings.Contains(help, takeOver), slices.Contains(container.Args, takeOver); can != does {
		t.Errorf("usher run knows %s: %v; the DaemonSet gives it: %v", takeOver, can, does)
	}
	if pod.HostPID || pod.HostIPC {
		t.Errorf("hostPID %v, hostIPC %v", pod.HostPID, pod.HostIPC)
	}
	asYAML, err := yaml.Marshal(map[string]any{
		"pod": pod.SecurityContext, "container": container.SecurityContext, "volumes": hostPaths(pod.Volumes),
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "daemonset-security.golden", string(asYAML))
}

// hostPorts are those of the DaemonSet's Pods: with hostNetwork the API server makes one of
// every port that is declared.
func (c *cluster) hostPorts(ds *appsv1.DaemonSet) (ports []int32) {
	c.t.Helper()
	pod := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: ds.Spec.Template.Spec}
	pod.Name, pod.Namespace = ds.Name, ds.Namespace
	text, err := json.Marshal(pod)
	path := filepath.Join(c.t.TempDir(), "pod.json")
	if err == nil {
		write(c.t, path, string(text))
		err = json.Unmarshal([]byte(c.kubectl.run(c.NS, dryRun("-f", path, "--output=json")...)), &pod)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	for _, port := range pod.Spec.Containers[0].Ports {
		ports = append(ports, port.HostPort)
	}
	return ports
}

func hostPaths(volumes []corev1.Volume) (paths []corev1.HostPathVolumeSource) {
	for _, v := range volumes {
		if v.HostPath != nil {
			paths = append(paths, *v.HostPath)
		}
	}
	return paths
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		write(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (-update writes it) has\n%s\nbut there is\n%s", path, want, got)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
