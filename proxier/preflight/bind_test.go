package preflight

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/usher-proxy/usher/test/netns"
)

func TestRefusals(t *testing.T) {
	ns := netns.New(t, "node")
	ns.Run("ip", "link", "add", "eth0", "type", "bridge")
	cfg := usual(t)
	forwarding := func(v4, v6 string) {
		ns.Sysctl("net/ipv4/ip_forward", v4)
		ns.Sysctl("net/ipv6/conf/all/forwarding", v6)
	}
	forwarding("0", "0")
	want(t, check(t, ns, cfg), "refusals", OK, "no need of forwarding")
	cfg.Proxier.Capture = "bind"
	want(t, check(t, ns, cfg), "refusals", Warn, "net.ipv4.ip_forward is 0")
	forwarding("1", "0")
	want(t, check(t, ns, cfg), "refusals", OK, "also those elsewhere") // nobody reaches it by IPv6
	ns.Run("ip", "address", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
	want(t, check(t, ns, cfg), "refusals", Warn, "set net.ipv6.conf.all.forwarding to 1")
	forwarding("0", "0")
	want(t, check(t, ns, cfg), "refusals", Warn, "set net.ipv4.ip_forward and net.ipv6.conf.all.forwarding to 1")
	forwarding("1", "1")
	want(t, check(t, ns, cfg), "refusals", OK, "also those elsewhere")
	cfg.Proxier.Capture = "auto"
	t.Setenv("PATH", t.TempDir()) // no iptables: it falls back
	want(t, check(t, ns, cfg), "refusals", OK, "also those elsewhere")
}

const twoServices = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  ports: [{name: http, port: 80, nodePort: 30080}, {name: dns, protocol: UDP, port: 53}]
---
apiVersion: v1
kind: Service
metadata: {name: other, labels: {service.kubernetes.io/service-proxy-name: other}}
spec:
  clusterIP: 10.96.0.11
  ports: [{port: 8443}]
`

func TestOtherServers(t *testing.T) {
	ns := netns.New(t, "node")
	cfg := usual(t)
	if err := os.WriteFile(filepath.Join(cfg.Manifests[0], "web.yaml"), []byte(twoServices), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, harmless := range []string{"127.0.0.1:80", "[::1]:80", "0.0.0.0:53", "0.0.0.0:8443"} {
		ns.Listen("tcp", netip.MustParseAddrPort(harmless))
	}
	ns.ListenUDP(netip.MustParseAddrPort("0.0.0.0:80"))
	cfg.Proxier.Capture = "bind"
	want(t, check(t, ns, cfg), "other servers", OK, "none listens")
	ns.ListenUDP(netip.MustParseAddrPort("0.0.0.0:53"))
	want(t, check(t, ns, cfg), "other servers", Warn, "here: default/web 53/UDP | let these servers")
	ns.Listen("tcp", netip.MustParseAddrPort("[::]:30080"))
	want(t, check(t, ns, cfg), "other servers", Warn, "default/web 30080/TCP, default/web 53/UDP |")
	cfg.ServiceProxyName = "other"
	want(t, check(t, ns, cfg), "other servers", Warn, "here: default/other 8443/TCP |")
	cfg.Proxier.Capture = "auto"
	want(t, check(t, ns, cfg), "other servers", OK, "in nobody's way")
	cfg.Proxier.Capture, cfg.Manifests, cfg.RESTError = "bind", nil, os.ErrNotExist
	want(t, check(t, ns, cfg), "other servers", Warn, "no API server is known")
}

// Services of an API server come in pages.
func TestOtherServersWithAnAPIServer(t *testing.T) {
	taken := netns.New(t, "node")
	pages := map[string]string{
		"":  `{"metadata":{"continue":"2"},"items":[{"metadata":{"namespace":"a","name":"one"},"spec":{"clusterIP":"10.96.0.1","ports":[{"protocol":"TCP","port":81}]}}]}`,
		"2": `{"items":[{"metadata":{"namespace":"b","name":"two"},"spec":{"clusterIP":"10.96.0.2","ports":[{"protocol":"TCP","port":22}]}},{"metadata":{"namespace":"b","name":"headless"},"spec":{"clusterIP":"None","ports":[{"protocol":"TCP","port":22}]}}]}`,
	}
	listener := taken.Listen("tcp", netip.MustParseAddrPort("127.0.0.1:0"))
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/services" || !strings.Contains(r.URL.Query().Get("labelSelector"), "service-proxy-name") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, pages[r.URL.Query().Get("continue")])
	})}}
	server.Start()
	defer server.Close()
	taken.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:22"))
	cfg := usual(t)
	cfg.Proxier.Capture, cfg.Manifests = "bind", nil
	// Connections are made by other threads, which are not in the namespace.
	cfg.REST = &rest.Config{Host: server.URL, Dial: taken.DialContext}
	want(t, check(t, taken, cfg), "other servers", Warn, "here: b/two 22/TCP |")
}
