package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// container is what the kubelet and a container runtime make of usher's DaemonSet on the
// node: its command line, environment, files, mounts and capabilities. The root is the
// machine's own instead of an image's, and its seccomp profile is missing.
type container struct {
	*cluster
	spec corev1.Container
	line []string // what the runtime executes, for a program to be appended
	args []string
}

func (c *cluster) newContainer(ds *appsv1.DaemonSet) *container {
	c.t.Helper()
	pod := ds.Spec.Template.Spec
	c.inPodOf(strings.TrimSpace(c.kubectl.run(c.NS, "create", "token", pod.ServiceAccountName, "--namespace="+ds.Namespace)))
	k := &container{cluster: c, spec: pod.Containers[0]}
	k.args = k.spec.Args
	k.setEnv(ds.Namespace)
	var writable []string
	for _, v := range pod.Volumes {
		switch {
		case v.HostPath != nil:
			k.makeHostPath(v.HostPath)
			writable = append(writable, v.HostPath.Path)
		case v.ConfigMap != nil:
			k.mountConfig(v.Name, c.configMap(ds.Namespace, v.ConfigMap.Name))
		default:
			c.t.Fatalf("a volume of a kind that is not expected: %v", v)
		}
	}
	k.line = k.runtime(writable)
	return k
}

// setEnv sets the container's environment, over the one that is the same for all Pods.
func (k *container) setEnv(namespace string) {
	for _, from := range k.spec.EnvFrom {
		if *from.ConfigMapRef.Optional && k.kubectl.command(k.NS, "get", "configmap", from.ConfigMapRef.Name, "--namespace="+namespace).Run() != nil {
			continue
		}
		for name, value := range k.configMap(namespace, from.ConfigMapRef.Name) {
			k.env(name + "=" + value)
		}
	}
	for _, v := range k.spec.Env {
		if v.ValueFrom.FieldRef.FieldPath != "spec.nodeName" {
			k.t.Fatalf("an environment variable that is not expected: %v", v)
		}
		k.replaceArgs("$("+v.Name+")", "node")
	}
}

func (c *cluster) configMap(namespace, name string) map[string]string {
	c.t.Helper()
	var answer corev1.ConfigMap
	text := c.kubectl.run(c.NS, "get", "configmap", name, "--namespace="+namespace, "--output=json")
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		c.t.Fatal(err)
	}
	return answer.Data
}

func (k *container) makeHostPath(v *corev1.HostPathVolumeSource) {
	var err error
	switch *v.Type {
	case corev1.HostPathDirectoryOrCreate:
		err = os.MkdirAll(v.Path, 0o755)
	case corev1.HostPathFileOrCreate:
		var f *os.File
		if f, err = os.OpenFile(v.Path, os.O_CREATE, 0o644); err == nil {
			f.Close()
		}
	default:
		err = fmt.Errorf("hostPath %s is of type %s", v.Path, *v.Type)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { os.RemoveAll(v.Path) })
}

// mountConfig puts the files of a ConfigMap somewhere else than the container has them,
// because the machine has no such directory, and tells the command line.
func (k *container) mountConfig(volume string, files map[string]string) {
	dir := k.t.TempDir()
	for name, text := range files {
		write(k.t, filepath.Join(dir, name), text)
	}
	for _, m := range k.spec.VolumeMounts {
		if m.Name == volume {
			k.replaceArgs(m.MountPath+"/", dir+"/")
		}
	}
}

func (k *container) replaceArgs(from, to string) {
	args := make([]string, 0, len(k.args))
	for _, a := range k.args {
		args = append(args, strings.ReplaceAll(a, from, to))
	}
	k.args = args
}

// runtime mounts everything read-only but those paths, as runtimes also have /proc/sys, and
// leaves the capabilities that were asked for.
func (k *container) runtime(writable []string) []string {
	s := k.spec.SecurityContext
	if !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || *s.RunAsUser != 0 || s.Privileged != nil {
		k.t.Fatalf("security context %v", s)
	}
	script := "set -e\nmount --bind /proc/sys /proc/sys\n"
	for _, path := range writable {
		script += "mount --bind " + path + " " + path + "\n"
	}
	for _, path := range []string{"/proc/sys", "/run", "/"} {
		script += "mount -o remount,bind,ro " + path + "\n"
	}
	bounding := "-all"
	for _, c := range s.Capabilities.Add {
		bounding += ",+" + strings.ToLower(string(c))
	}
	script += `exec setpriv --no-new-privs --inh-caps=-all --bounding-set=` + bounding + ` "$@"`
	return []string{"unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"}
}

// start starts usher there and waits until both probes succeed.
func (k *container) start() *usher.Process {
	k.t.Helper()
	u := k.run(k.args...)
	for _, probe := range []*corev1.Probe{k.spec.ReadinessProbe, k.spec.LivenessProbe} {
		get := probe.HTTPGet
		url := fmt.Sprintf("http://%s:%d%s", get.Host, get.Port.IntValue(), get.Path)
		netns.EventuallyWithin(k.t, slowly, url, func() error {
			if code := k.status(url); code != http.StatusOK {
				return fmt.Errorf("answers %d", code)
			}
			return nil
		})
	}
	return u
}

// run starts usher there with another command line.
func (k *container) run(args ...string) *usher.Process {
	k.t.Helper()
	return usher.LaunchUnder(k.t, k.NS, k.line, args...)
}
