package source

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig writes a kubeconfig with a token and a CA, as a kubelet has.
func writeKubeconfig(t *testing.T, server string, ca []byte) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "secret"}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// --master changes where requests go, not who sends them and whom they trust.
func TestMasterKeepsCredentials(t *testing.T) {
	f := newFakeAPI(t)
	f.put("services", apiService("a", "10.96.0.1"))
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = stdlog.New(io.Discard, "", 0) // a client that trusts nobody is part of the test
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(f.goAway)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	kubeconfig := writeKubeconfig(t, "https://192.0.2.1:6443", ca)

	config, err := RESTConfig(kubeconfig, strings.TrimPrefix(server.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAPI(Config{REST: config, Log: newLogbook(t)})
	if err != nil {
		t.Fatal(err)
	}
	run(t, a)
	until(t, a, "the list, over TLS", has("default/a"))
	for _, r := range f.requestsFor("services") {
		if r.authorization != "Bearer secret" {
			t.Errorf("authorization %q", r.authorization)
		}
	}

	strange, err := RESTConfig(writeKubeconfig(t, "https://192.0.2.1:6443", nil), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	log := newLogbook(t)
	b, err := NewAPI(Config{REST: strange, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	run(t, b)
	within(t, "a CA that was not given is not trusted", func() bool { return log.count("cannot", "certificate-authority") == 1 })
}

func TestMasterForms(t *testing.T) {
	for master, want := range map[string]string{
		"":                      "https://192.0.2.1:6443",
		"https://10.0.0.5:6443": "https://10.0.0.5:6443",
		"10.0.0.5:6443":         "https://10.0.0.5:6443",
		"10.0.0.5":              "https://10.0.0.5",
		"api.example.com":       "https://api.example.com",
		"api.example.com:6443":  "https://api.example.com:6443",
		"fd00::1":               "https://[fd00::1]",
		"[fd00::1]:6443":        "https://[fd00::1]:6443",
		"https://proxy/k8s/c-1": "https://proxy/k8s/c-1",
		"http://10.0.0.5:8080":  "error: http would send the credentials in clear text",
		"ftp://10.0.0.5":        "error: want https://HOST:PORT, HOST:PORT or HOST",
		"https://":              "error: want https://HOST:PORT, HOST:PORT or HOST",
		"10.0.0.5:x":            "error: ",
	} {
		config, err := RESTConfig(writeKubeconfig(t, "https://192.0.2.1:6443", nil), master)
		switch failure, fails := strings.CutPrefix(want, "error: "); {
		case fails && (err == nil || !strings.Contains(err.Error(), failure) || !strings.Contains(err.Error(), "--master="+master)):
			t.Errorf("%q: got %v, want %q", master, err, failure)
		case !fails && (err != nil || config.Host != want):
			t.Errorf("%q: got %+v, %v, want %q", master, config, err, want)
		case !fails && config.BearerToken != "secret":
			t.Errorf("%q: lost the token", master)
		}
	}
}

func TestRESTConfigInCluster(t *testing.T) {
	pod := func() (*rest.Config, error) {
		return &rest.Config{Host: "https://10.96.0.1:443", BearerTokenFile: "/token", TLSClientConfig: rest.TLSClientConfig{CAFile: "/ca"}}, nil
	}
	config, err := restConfig("", "10.0.0.5:6443", pod)
	if err != nil || config.Host != "https://10.0.0.5:6443" || config.BearerTokenFile != "/token" || config.CAFile != "/ca" {
		t.Errorf("got %+v, %v", config, err)
	}
}

func TestRESTConfigErrorsSayWhatToDo(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("apiVersion: v1\nkind: Config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := func() (*rest.Config, error) { return nil, rest.ErrNotInCluster }
	tokenless := func() (*rest.Config, error) { return nil, os.ErrNotExist }
	for _, test := range []struct {
		kubeconfig string
		inCluster  func() (*rest.Config, error)
		want       []string
	}{
		{"", outside, []string{"--kubeconfig=FILE", "--manifests=PATH"}},
		{"", tokenless, []string{"automountServiceAccountToken", "--kubeconfig=FILE"}},
		{"/none", outside, []string{"--kubeconfig=/none", "no such file"}},
		{empty, outside, []string{"--kubeconfig=" + empty, "current-context"}},
	} {
		_, err := restConfig(test.kubeconfig, "", test.inCluster)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %v, want %q in it", test.kubeconfig, err, want)
			}
		}
	}
}

func TestContactIsTransparent(t *testing.T) {
	var c contact
	var told []string
	failed := func(verb, resource string, err error) {
		told = append(told, fmt.Sprint(verb, " ", resource, ": ", err))
	}
	respond := func(code int, err error) {
		next := roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code, Body: http.NoBody}, err
		})
		if _, got := c.wrap(next, failed).RoundTrip(httptest.NewRequest("GET", "/api/v1/services", nil)); got != err {
			t.Errorf("error %v, want %v", got, err)
		}
	}
	respond(200, errors.New("no"))
	if !slices.Equal(told, []string{"list services: no"}) {
		t.Errorf("told %q", told)
	}
	respond(401, nil) // no news of Services
	respond(503, nil)
	if at := c.services.last.time(); !at.IsZero() {
		t.Errorf("a contact before any: %v", at)
	}
	respond(200, nil)
	if c.services.last.time().IsZero() || !c.nodes.last.time().IsZero() {
		t.Errorf("contacts %v of Services, %v of Nodes", c.services.last.time(), c.nodes.last.time())
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
