package source

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

func TestCheckAPIAddress(t *testing.T) {
	pod := map[string]string{ // what kubelet sets, in a cluster with the Service at 10.96.0.1:443
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443",
		"KUBERNETES_PORT": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
	}
	overridden := map[string]string{ // and a DaemonSet that knows
		"KUBERNETES_SERVICE_HOST": "10.0.0.5", "KUBERNETES_SERVICE_PORT": "6443",
		"KUBERNETES_PORT": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
	}
	crashed := func(a netip.AddrPort) string {
		if a == netip.MustParseAddrPort("10.96.0.1:443") {
			return "default/kubernetes"
		}
		return ""
	}
	for name, test := range map[string]struct {
		host     string
		env      map[string]string
		leftover func(netip.AddrPort) string
		answers  bool
		refused  bool
		warned   bool
	}{
		"own address, up":                  {host: "https://10.0.0.5:6443", answers: true},
		"own address, down":                {host: "https://10.0.0.5:6443", warned: true},
		"own address, down, crashed":       {host: "https://10.0.0.5:6443", leftover: crashed, warned: true},
		"DaemonSet, ClusterIP, served":     {host: "https://10.96.0.1:443", env: pod, answers: true},
		"DaemonSet, ClusterIP, not served": {host: "https://10.96.0.1:443", env: pod, refused: true},
		"DaemonSet, default port":          {host: "https://10.96.0.1", env: pod, refused: true},
		"DaemonSet, old environment": {
			host: "https://10.96.0.1:443", env: map[string]string{"KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1"}, refused: true,
		},
		"DaemonSet, overridden, down": {host: "https://10.0.0.5:6443", env: overridden, warned: true},
		"kubeconfig with ClusterIP":   {host: "https://10.96.0.1", warned: true},
		"same, after a crash":         {host: "https://10.96.0.1", leftover: crashed, refused: true},
		"another port":                {host: "https://10.96.0.1:6443", env: pod, leftover: crashed, warned: true},
		"a name":                      {host: "https://api.example.com", env: pod, leftover: crashed, warned: true},
	} {
		t.Run(name, func(t *testing.T) {
			log, dials := newLogbook(t), 0
			c := addressCheck{
				getenv: func(name string) string { return test.env[name] }, leftover: test.leftover, log: log, attempts: 3,
				dial: func(_ context.Context, _, address string) (net.Conn, error) {
					dials++
					if test.answers && dials == 2 { // the first one may be lost
						conn, _ := net.Pipe()
						return conn, nil
					}
					return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
				},
			}
			err := c.run(t.Context(), &rest.Config{Host: test.host})
			if (err != nil) != test.refused {
				t.Errorf("got %v", err)
			}
			if err != nil && !(strings.Contains(err.Error(), "default/kubernetes") && strings.Contains(err.Error(), "--master") &&
				strings.Contains(err.Error(), "KUBERNETES_SERVICE_HOST")) {
				t.Errorf("does not say what to do: %v", err)
			}
			if warned := log.count("warning", "does not answer yet", "--master") == 1; warned != test.warned {
				t.Errorf("log %q", log.all())
			}
		})
	}
}

func TestCheckAPIAddressForReal(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: "http://" + listener.Addr().String()}
	ours := func(netip.AddrPort) string { return "x/y" }
	if err := CheckAPIAddress(t.Context(), config, ours, newLogbook(t)); err != nil {
		t.Errorf("it answers, and yet: %v", err)
	}
	listener.Close()
	if err := CheckAPIAddress(t.Context(), config, ours, newLogbook(t)); err == nil || !strings.Contains(err.Error(), "Service x/y") {
		t.Errorf("got %v", err)
	}
}

func TestCheckAPIAddressStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	c := addressCheck{
		getenv: func(string) string { return "" }, log: newLogbook(t), attempts: 2, pause: time.Hour,
		dial: func(context.Context, string, string) (net.Conn, error) {
			cancel(stopped)
			return nil, syscall.ECONNREFUSED
		},
	}
	if err := c.run(ctx, &rest.Config{Host: "https://10.0.0.5"}); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
}

func TestCheckAPIAddressThroughProxy(t *testing.T) {
	c := addressCheck{dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("dials, though a proxy does that")
		return nil, syscall.ECONNREFUSED
	}, attempts: 1, log: newLogbook(t)}
	config := &rest.Config{Host: "https://10.96.0.1", Proxy: func(*http.Request) (*url.URL, error) { return url.Parse("http://proxy:3128") }}
	if err := c.run(t.Context(), config); err != nil {
		t.Error(err)
	}
}

func TestHasFrontend(t *testing.T) {
	kubernetes := apiService("kubernetes", "10.96.0.1")
	kubernetes.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"}
	kubernetes.Spec.Ports = []corev1.ServicePort{{Port: 443}}
	for _, test := range []struct {
		host, port string
		want       bool
	}{
		{"10.96.0.1", "443", true}, {"fd00::1", "443", true}, {"::ffff:10.96.0.1", "443", true},
		{"kubernetes.default", "443", true}, {"kubernetes.default.svc.cluster.local", "443", true},
		{"10.96.0.1", "6443", false}, {"10.0.0.5", "443", false}, {"api.example.com", "443", false},
	} {
		if got := hasFrontend(kubernetes, test.host, test.port); got != test.want {
			t.Errorf("%s:%s: got %v", test.host, test.port, got)
		}
	}
}
