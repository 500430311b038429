package cli

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// retried is a connection that one endpoint had refused before another served it.
func retried() admin.Flow {
	return admin.Flow{
		ID: "b-7", Start: time.Now().Add(-time.Minute), Message: "shop/web served by shop/web-2 after 1 failed attempt", Event: "conn.close",
		Namespace: "shop", Service: "web", PortName: "http", Protocol: "tcp", ClientIP: "10.0.0.5", ClientPort: 4000, VIP: "10.96.0.1", VIPPort: 80, VIPKind: "cluster",
		BackendIP: "10.1.0.2", BackendPort: 8080, BackendPod: "shop/web-2", Balancer: "random", Eligible: 2, Source: "client", LocalPort: 4711,
		ConnectMs: 0.5, FirstByteClientMs: 3, FirstByteBackendMs: 5, DurationMs: 1500, BytesIn: 10, BytesOut: 2000,
		Reason: "client_reset", Code: "CD", Side: "client", Phase: "data", Errno: "ECONNRESET",
		ClientClose: "rst", ClientCloseMs: 1499, BackendClose: "fin", BackendCloseMs: 1000, SentClient: "fin", SentBackend: "rst",
		Attempts: []admin.FlowAttempt{
			{Backend: "10.1.0.1:8080", Pod: "shop/web-1", StartMs: 0.1, DurationMs: 1, Result: "backend_refused", Errno: "ECONNREFUSED"},
			{Backend: "10.1.0.2:8080", Pod: "shop/web-2", StartMs: 1.2, DurationMs: 0.5, Result: "ok"},
		},
	}
}

// has fails the test unless a text has all of these, in this order.
func has(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	rest := squeezed(text)
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("%s does not say %q where it should:\n%s", what, part, text)
			return
		}
		rest = after
	}
}

func TestDescribeService(t *testing.T) {
	views := shop()
	services := views["/v1/services"].([]admin.Service)
	web := &services[0]
	web.Affinity, web.ExternalPolicy, web.SourceRanges, web.HealthCheckPort = "ClientIP, for 3h0m0s", "Local", []string{"192.0.2.0/24"}, 30999
	web.Annotations = map[string]string{"usher-proxy.io/retries": "1"}
	web.Ports = append(web.Ports, admin.Port{Name: "dns", Port: 53, Protocol: "udp"})
	views["/v1/services"] = services[:1]
	views["/v1/endpoints"] = seen[:1]
	views["/v1/attention"] = []admin.Attention{
		{Severity: "error", Kind: "Service", Namespace: "shop", Name: "other", Reason: "NotAboutIt"},
		{Severity: "warning", Kind: "Service", Namespace: "shop", Name: "web", Port: "p80/tcp", Reason: "EndpointsOut", Message: "1 of 3 is out"},
	}
	other := retried()
	other.Reason, other.Side, other.Message = "ok", "none", "all went well"
	views["/v1/flows"] = []admin.Flow{retried(), other, other}

	out, messages, code := saidOf(t, "describe", "svc", "shop/web", "--admin-socket="+telling(t, views))
	if code != 0 || messages != "" {
		t.Fatalf("exit code %d, %s", code, messages)
	}
	has(t, "describe service", out,
		"Name: web\n", "Namespace: shop\n", "Labels: tier=front\n", "Cluster IPs: 10.96.0.1, fd00::1\n", "Affinity: ClientIP, for 3h0m0s\n", "Policy: external Local, internal Cluster\n",
		"Sources: 192.0.2.0/24\n", "Health port: 30999\n", "Annotation: usher-proxy.io/retries: 1\n", "Age: 3d4h\n",
		"Ports:\n", "p80 80/tcp <none> random IPv4,IPv6 serve,refuse 2/3,0/0 0,0 3 10",
		"Attention:\nwarning Service shop/web:p80/tcp EndpointsOut 1 of 3 is out\n",
		"Endpoints:\n", "10.0.0.2:8080", "out 0 ready, but ill for 3s\n",
		"Listeners:\n", "127.0.0.1:3000 cluster serve cluster 10.96.0.1:80",
		"Connections (6, the oldest first):\n", "a-1 open 10.0.0.5:4000",
		"UDP sessions (1):\n", "10.0.0.5:53 10.1.0.1:53 <none> false 7 0 3s 90s\n",
		"Ended lately (the last 3, by reason):\n", "2 ok none", "all went well\n", "1 client_reset client", "after 1 failed attempt\n")
	if strings.Contains(out, "NotAboutIt") {
		t.Error("it tells what is about another Service")
	}
}

// An older usher tells less, and no less is told of that.
func TestDescribeServiceOfAnOlderUsher(t *testing.T) {
	socket := streamSocket(t, map[string]admin.View{"/v1/services": {Parameters: []string{"namespace", "service"}, Show: func(url.Values) (any, error) { return shop()["/v1/services"], nil }}}, http.NotFound)
	out, messages, code := saidOf(t, "describe", "svc", "shop/web", "--admin-socket="+socket)
	if code != 0 || !strings.Contains(out, "Name:          web\n") || strings.Contains(out, "Endpoints:") {
		t.Errorf("exit code %d, %s\n%s", code, messages, out)
	}
}

func TestDescribeLiveConnection(t *testing.T) {
	views := map[string]any{"/v1/connections": admin.Connections{Connections: []admin.Connection{{
		ID: "a-1", State: "open", Namespace: "shop", Service: "web", Client: "10.0.0.5:4000", Endpoint: "10.1.0.2:8080", Pod: "shop/web-2", Balancer: "random", ConnectMs: -1,
		Attempts:   []admin.Attempt{{Endpoint: "10.1.0.1:8080", StartMs: 0.1, DurationMs: 1, Result: "backend_refused", Errno: "ECONNREFUSED"}},
		TCPBackend: &admin.TCPInfo{State: "CLOSE-WAIT", RTTMicros: 1500, Unsent: 2000},
	}}}}
	out, _, code := saidOf(t, "describe", "connection", "a-1", "--admin-socket="+telling(t, views))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	has(t, "describe connection", out, "ID: a-1\n", "State: open\n", "Service: shop/web\n", "Chosen: by random\n", "Endpoint: 10.1.0.2:8080 (shop/web-2)\n", "Connected: never\n",
		"Closed: neither side has sent FIN\n", "Failed attempts:\n", "0.1ms 1ms 10.1.0.1:8080 <none> backend_refused ECONNREFUSED\n",
		"Sockets, as the kernel says:\n", "endpoint CLOSE-WAIT 1.5ms", "2.0kB")
}

func TestDescribeConnectionThatHasEnded(t *testing.T) {
	another := retried()
	another.ID = "b-77"
	views := map[string]any{"/v1/connections": admin.Connections{}, "/v1/flows": []admin.Flow{another, retried()}}
	out, _, code := saidOf(t, "describe", "connection", "b-7", "--admin-socket="+telling(t, views))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	has(t, "describe connection", out, "shop/web served by shop/web-2 after 1 failed attempt\n", "ID: b-7\n", "State: ended 58s ago\n",
		"Reason: client_reset (CD, side: client, phase: data, ECONNRESET)\n", "What happened",
		"0ms accepted from 10.0.0.5:4000\n",
		"0.1ms attempt 1: connects to shop/web-1 (10.1.0.1:8080)\n",
		"1.1ms attempt 1: the endpoint refused (ECONNREFUSED)\n",
		"1.2ms attempt 2: connects to shop/web-2 (10.1.0.2:8080)\n",
		"1.7ms attempt 2: connected\n",
		"3ms first byte from the client\n", "5ms first answer of the endpoint\n",
		"1s the endpoint sent FIN", "1.499s the client sent RST\n", "1.5s ended: the client reset the connection; usher sent FIN to the client, RST to the endpoint\n")
}

func TestDescribeWhatIsNotThere(t *testing.T) {
	socket := telling(t, map[string]any{"/v1/connections": admin.Connections{}, "/v1/services": []admin.Service{}})
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"connection b-9", exitNotFound, `usher has no connection "b-9", and remembers none that has ended`},
		{"service shop/none", exitNotFound, "no Service shop/none is served"},
		{"service", exitUsage, "want the name of a Service"},
		{"service /web", exitUsage, "want SERVICE or NAMESPACE/SERVICE"},
		{"connection", exitUsage, "want the ID of one connection"},
		{"connection a b", exitUsage, "want the ID of one connection"},
		{"pod a", exitUsage, `there is nothing of the kind "pod" to describe, only: connection, service`},
		{"service web --admin-socket=" + filepath.Join(t.TempDir(), "none"), exitUnreachable, "does not exist"},
	} {
		args := strings.Fields("describe " + c.args)
		if c.code != exitUnreachable {
			args = append(args, "--admin-socket="+socket)
		}
		_, messages, code := saidOf(t, args...)
		if code != c.code || !strings.Contains(messages, c.says) {
			t.Errorf("usher describe %s: exit code %d, want %d: %s", c.args, code, c.code, messages)
		}
	}
}
