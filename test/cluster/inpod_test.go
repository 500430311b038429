package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const secrets = "/var/run/secrets"

// inPod makes what usher finds in the pod of a DaemonSet: credentials, and the
// environment that kubelet makes.
func (c *cluster) inPod() { c.inPodOf(c.api.Usher.Token) }

// inPodOf is inPod for the account that has this token.
func (c *cluster) inPodOf(token string) {
	c.t.Helper()
	privateVarRun(c.t)
	dir := filepath.Join(secrets, "kubernetes.io/serviceaccount")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { os.RemoveAll(secrets) })
	for name, content := range map[string]string{"token": token, "ca.crt": string(c.api.CA)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	c.env("KUBERNETES_PORT=tcp://10.96.0.1:443", "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443")
}

// env sets variables for what the test starts from now on.
func (c *cluster) env(variables ...string) {
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		c.t.Setenv(name, value)
	}
}

// privateVarRun makes sure that /var/run is the tests' own, as /run is.
func privateVarRun(t *testing.T) {
	t.Helper()
	if path, err := filepath.EvalSymlinks("/var/run"); err == nil && path == "/run" {
		return
	}
	if err := unix.Mount("tmpfs", "/var/run", "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/var/run", 0) })
}
