package cluster

import (
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The ways to be told where the API server is, right and wrong.
func TestAddressesAndCredentials(t *testing.T) {
	c := newCluster(t)
	web := c.serve("web", c.Pods[0])
	served := func(c *cluster) { c.answers(c.Client.NS, web, "pod-1") }

	c.story("--master replaces the address, not token and CA", func(c *cluster) {
		kubeconfig := c.kubeconfig(c.api.URL, "https://192.0.2.99:6443")
		defer c.startWith("--kubeconfig="+kubeconfig, "--master="+c.api.URL).Stop()
		served(c)
	})
	c.story("a CA that did not sign for the API server", wrongCA)
	c.story("in a pod, with the API server's own address", func(c *cluster) {
		c.inPod()
		c.env("KUBERNETES_SERVICE_HOST=192.0.2.1", "KUBERNETES_SERVICE_PORT=6443")
		defer c.startWith().Stop()
		served(c)
	})
	c.story("in a pod, with an address that nobody but usher would serve", ownServiceOnly)
	c.story("after a crash, with an address that only usher served", ownServiceAfterCrash)
	c.story("in a pod, with an address that somebody else serves so far", func(c *cluster) {
		c.redirectKubernetes()
		c.inPod()
		u := c.startWith()
		defer u.Stop()
		served(c)
		u.WaitLog("--master")
		if n := strings.Count(u.Log(), "the ClusterIP of the Service default/kubernetes"); n != 1 {
			c.t.Errorf("%d warnings, want one:\n%s", n, u.Log())
		}
	})
}

// usher does not ask without checking: it says what is wrong, and waits.
func wrongCA(c *cluster) {
	before := c.rules()
	encode := base64.StdEncoding.EncodeToString
	u := c.launch("--kubeconfig=" + c.kubeconfig(encode(c.api.CA), encode(otherCA())))
	defer u.Stop()
	u.WaitLog("certificate signed by unknown authority; see certificate-authority in the kubeconfig")
	c.awaitReadyz(http.StatusServiceUnavailable)
	if now := c.rules(); now != before {
		c.t.Errorf("rules\n%s", now)
	}
}

// otherCA is some certificate.
func otherCA() []byte {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// kubeconfig is the one of usher's user with some texts replaced.
func (c *cluster) kubeconfig(oldnew ...string) string {
	c.t.Helper()
	text, err := os.ReadFile(c.api.Usher.Kubeconfig)
	path := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err == nil {
		err = os.WriteFile(path, []byte(strings.NewReplacer(oldnew...).Replace(string(text))), 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return path
}
