package ui

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/outlier"
)

// fake is an admin API with a made-up node behind it, whose counters grow.
type fake struct {
	socket   string
	services []admin.Service
	started  time.Time
	quiet    bool // nothing has ever connected
	bind     bool

	asked atomic.Int64 // for /v1/services
	stop  func()
}

// evil is a name that nobody should have.
const evil = "<script>alert(1)</script>\x1b[31m\u202e"

// newFake has so many Services; the first is of a web shop.
func newFake(t *testing.T, services int) *fake {
	f := &fake{socket: filepath.Join(t.TempDir(), "usher.sock"), started: time.Now().Add(-3 * time.Minute)}
	words := []string{"cart", "search", "mail", "ledger", "images", "queue", "auth", "report"}
	for i := range services {
		s := admin.Service{
			Namespace: "shop", Name: "web", Type: "ClusterIP", Created: f.started, Addresses: []string{fmt.Sprintf("10.96.%d.%d", i/250, i%250+1)},
			Ports: []admin.Port{{Name: "http", Port: 80, Protocol: "tcp", Balancer: "roundrobin", Families: []admin.Family{{Family: "IPv4", Answer: "serve", Endpoints: 4, Usable: 3, Ill: 1}}}},
		}
		switch i {
		case 0:
			s.Type, s.Ports[0].NodePort = "NodePort", 30080
		case 1:
			s.Name, s.Ports[0].Families[0] = "orphan", admin.Family{Family: "IPv4", Answer: "refuse"}
		case 2:
			s.Name = evil
		default:
			s.Namespace, s.Name = fmt.Sprintf("team-%02d", i%40), fmt.Sprintf("%s-%d", words[i%len(words)], i)
		}
		f.services = append(f.services, s)
	}
	return f
}

// start serves until stop, or the end of the test.
func (f *fake) start(t *testing.T) {
	t.Helper()
	l, err := admin.Listen(t.Context(), f.socket)
	if err != nil {
		t.Fatal(err)
	}
	views := admin.API{Views: f.views()}.Server()
	mux := http.NewServeMux()
	mux.Handle("/", views.Handler)
	mux.HandleFunc("/v1/flows", f.flows)
	server, ended := &http.Server{Handler: mux}, make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	f.stop = sync.OnceFunc(func() { server.Close(); <-ended })
	t.Cleanup(func() { f.stop() })
}

func view[T any](show func(url.Values) T, parameters ...string) admin.View {
	return admin.View{Parameters: parameters, Show: func(q url.Values) (any, error) { return show(q), nil }}
}

func (f *fake) views() map[string]admin.View {
	return map[string]admin.View{
		"/v1/status":      view(f.status),
		"/v1/attention":   view(f.attention),
		"/v1/services":    view(f.list, "namespace", "service"),
		"/v1/traffic":     view(f.traffic),
		"/v1/endpoints":   view(f.endpoints, "namespace", "service"),
		"/v1/listeners":   view(f.listeners, "namespace", "service"),
		"/v1/map":         view(f.talk),
		"/v1/explain":     view(f.explain, "namespace", "service", "port", "protocol", "family", "from", "vip"),
		"/v1/connections": view(f.connections, "namespace", "service", "pod", "client", "id", "limit"),
		"/v1/sessions":    view(f.sessions, "namespace", "service", "pod", "client", "limit"),
		"/v1/rules":       view(f.rules),
		"/v1/rules/diff":  view(f.differences),
	}
}

func (f *fake) status(url.Values) admin.Status {
	written := time.Now().Add(-8 * time.Second)
	s := admin.Status{
		Version: "v0.9.0", Node: "worker-3", Started: f.started, Capture: "iptables", CaptureWhy: "as it may write rules", Families: []string{"IPv4", "IPv6"}, Ready: true,
		Services: len(f.services), Ports: len(f.services) + 12, Connections: 1843, UDPSessions: 92, Source: "https://10.0.0.1:6443",
		Watch: []admin.Watch{{Resource: "services", AgeSeconds: 3.4, Synced: true}, {Resource: "endpointslices", AgeSeconds: 1.2, Synced: true}},
		Rules: admin.Rules{Written: &written, ForeignWrites: 2}, Files: admin.Gauge{Used: 5120, Limit: 65536}, Ring: admin.Ring{Held: 16384, Size: 16384}, Log: admin.Log{Dropped: 0},
		RecentSeconds: 300, Recent: []admin.ReasonCount{
			{Reason: "ok", Code: "--", Side: "none", Text: "both sides closed", Count: 9120},
			{Reason: "client_reset", Code: "CD", Side: "client", Text: "the client reset the connection", Count: 312, Trouble: 312},
			{Reason: "backend_reset", Code: "SD", Side: "backend", Text: "the endpoint reset the connection", Count: 41, Trouble: 41},
			{Reason: "no_endpoints", Code: "NE", Side: "proxy", Text: "the Service has no usable endpoint", Count: 17, Trouble: 17},
		},
	}
	if f.bind {
		s.Capture, s.CaptureWhy = "bind", "as it was asked for by --capture"
	}
	if f.quiet {
		s.Recent, s.Connections, s.UDPSessions = nil, 0, 0
	}
	return s
}

func (f *fake) attention(url.Values) []admin.Attention {
	if f.quiet {
		return []admin.Attention{}
	}
	return []admin.Attention{
		{Severity: "error", Kind: "Service", Namespace: "shop", Name: "orphan", Port: "http/tcp", Reason: "NoEndpoints", Message: "17 connections were refused in the last minute, as the Service has no usable endpoint. Look at its selector: no Pod has these labels."},
		{Severity: "warning", Kind: "Service", Namespace: "shop", Name: "web", Port: "http/tcp", Reason: "EndpointEjected", Message: "web-7d9f-4 refuses connections and is left out; it is asked again in 12 s."},
		{Severity: "warning", Kind: "Service", Namespace: "shop", Name: evil, Reason: "InvalidAnnotation", Message: "usher-proxy.io/balancer: unknown policy " + evil},
	}
}

func (f *fake) list(q url.Values) []admin.Service {
	f.asked.Add(1)
	found := []admin.Service{}
	for _, s := range f.services {
		if (q.Get("namespace") == "" || s.Namespace == q.Get("namespace")) && (q.Get("service") == "" || s.Name == q.Get("service")) {
			found = append(found, s)
		}
	}
	return found
}

func (f *fake) traffic(url.Values) admin.TrafficNow {
	now := admin.TrafficNow{Time: time.Now(), Ports: []admin.PortTraffic{}}
	if f.quiet {
		return now
	}
	age := time.Since(f.started).Seconds()
	for i, s := range f.services {
		if i > 200 {
			break
		}
		n := age * 80 / float64(i+1) * (1 + rand.Float64()*0.002)
		t := admin.Traffic{Active: int64(400 / (i + 1)), Opened: uint64(n), Closed: uint64(n), BytesIn: uint64(n * 900), BytesOut: uint64(n * 21000)}
		if i < 2 {
			t.Trouble, t.Retries, t.Failed = uint64(n/40), uint64(n/30), uint64(n/30)
		}
		t.Recent = &admin.RecentTraffic{Connections: int(n), ConnectP50: 0.3, ConnectP99: 2.5 + float64(i)}
		now.Ports = append(now.Ports, admin.PortTraffic{Namespace: s.Namespace, Service: s.Name, PortName: "http", Protocol: "tcp", Traffic: t})
	}
	return now
}

func (f *fake) endpoints(q url.Values) []admin.ServicePort {
	found := []admin.ServicePort{}
	for _, s := range f.list(q) {
		p := admin.ServicePort{Namespace: s.Namespace, Service: s.Name, PortName: "http", Port: 80, Protocol: "tcp", Family: "IPv4", Balancer: "roundrobin", Endpoints: []admin.EndpointStatus{}}
		for i := range s.Ports[0].Families[0].Endpoints {
			n := 12 - i
			e := admin.EndpointStatus{
				Address: fmt.Sprintf("10.244.%d.17:8080", i+1), Pod: fmt.Sprintf("%s/%s-7d9f-%d", s.Namespace, s.Name, i+1), Node: fmt.Sprintf("worker-%d", i+1), Zone: "zone-" + string(rune('a'+i%3)),
				Weight: 1, Sets: []string{"cluster"}, State: admin.In, Why: "is ready", Connections: &n,
			}
			if i == 3 {
				none := 0
				e.State, e.Why, e.Connections = admin.Out, "has refused 5 connections in a row and is left out for 12 s more", &none
				e.Health = &outlier.Status{Out: true, Why: "5 failures in a row, the last: ECONNREFUSED"}
			}
			p.Endpoints = append(p.Endpoints, e)
		}
		found = append(found, p)
	}
	return found
}

func (f *fake) listeners(q url.Values) []admin.Listener {
	found := []admin.Listener{}
	for _, s := range f.list(q) {
		found = append(found, admin.Listener{Namespace: s.Namespace, Service: s.Name, PortName: "http", Protocol: "tcp", Family: "IPv4", Address: "10.0.0.3:40123",
			Answer: s.Ports[0].Families[0].Answer, Frontends: []string{"cluster " + s.Addresses[0] + ":80"}, Active: 42})
	}
	return found
}

func (f *fake) talk(url.Values) admin.Talk {
	talk := admin.Talk{Seconds: 300, Edges: []admin.Edge{}}
	if f.quiet {
		return talk
	}
	for i := range 60 {
		s := f.services[i%min(9, len(f.services))]
		e := admin.Edge{Client: fmt.Sprintf("10.244.9.%d", i%17), ClientPod: fmt.Sprintf("front/gateway-%d", i%17), ClientKind: "pod", Namespace: s.Namespace, Service: s.Name,
			Endpoint: fmt.Sprintf("10.244.%d.17:8080", i%4+1), Pod: fmt.Sprintf("%s/%s-7d9f-%d", s.Namespace, s.Name, i%4+1), Count: 900 / (i + 1), Active: i % 3, Bytes: int64(i) * 100000}
		if s.Name == "orphan" {
			e.Endpoint, e.Pod, e.Trouble = "", "", e.Count
		}
		if i%4 == 3 && s.Name == "web" {
			e.Failed = 5
		}
		talk.Edges = append(talk.Edges, e)
	}
	return talk
}

func (f *fake) explain(q url.Values) admin.Explanation {
	e := admin.Explanation{Namespace: q.Get("namespace"), Service: q.Get("service"), PortName: "http", Protocol: "tcp", Family: "IPv4", Client: q.Get("from"), Kind: "pod", VIP: "10.96.0.1:80",
		Steps: []admin.Step{
			{Name: "address", Result: "ok", Text: "10.96.0.1:80 is the ClusterIP of the Service"},
			{Name: "rule", Result: "ok", Text: "a rule redirects it", Evidence: []string{"-A USHER -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to 10.0.0.3:40123"}},
			{Name: "listener", Result: "ok", Text: "usher listens on 10.0.0.3:40123"},
			{Name: "policy", Result: "note", Text: "the client is on this node, externalTrafficPolicy is not asked"},
			{Name: "endpoints", Result: "ok", Text: "3 of 4 endpoints are usable"},
		}, Answer: "serve", Verdict: "The connection would be served by one of 3 endpoints."}
	for i, port := range f.endpoints(url.Values{"namespace": q["namespace"], "service": q["service"]}) {
		for j, s := range port.Endpoints {
			c := admin.Candidate{EndpointStatus: s}
			if i == 0 && j < 3 {
				c.Order, c.Share = j+1, 1.0/3
			}
			e.Candidates = append(e.Candidates, c)
		}
	}
	return e
}

func (f *fake) connections(q url.Values) admin.Connections {
	c := admin.Connections{Connections: []admin.Connection{}}
	for i := range 240 {
		one := admin.Connection{ID: fmt.Sprintf("c-%d", i), Started: f.started, AgeSeconds: 180 - float64(i)/2, State: admin.StateOpen, Namespace: "shop", Service: "web", PortName: "http", Family: "IPv4",
			Client: fmt.Sprintf("10.244.9.%d:%d", i%17, 40000+i), VIP: "10.96.0.1:80", VIPKind: "cluster", Endpoint: "10.244.1.17:8080", Pod: "shop/web-7d9f-1", Node: "worker-1", ConnectMs: 0.4, BytesIn: int64(i) * 812, BytesOut: int64(i) * 90001}
		if i%40 == 3 {
			one.State, one.Closed = admin.StateHalfClosed, "client"
		}
		if q.Get("id") == one.ID {
			one.TCPClient = &admin.TCPInfo{State: "ESTAB", RTTMicros: 420, MSS: 1448, Cwnd: 10}
			return admin.Connections{Connections: []admin.Connection{one}}
		}
		if !f.quiet && q.Get("id") == "" && (q.Get("service") == "" || strings.HasSuffix(q.Get("service"), "web")) {
			c.Connections = append(c.Connections, one)
		}
	}
	return c
}

func (f *fake) sessions(url.Values) admin.Sessions {
	return admin.Sessions{Sessions: []admin.Session{{Started: f.started, AgeSeconds: 12, IdleSeconds: 1, Namespace: "kube-system", Service: "kube-dns", PortName: "dns", Client: "10.244.9.2:5353", VIP: "10.96.0.10:53", Endpoint: "10.244.2.2:53", Answered: true, BytesIn: 40, BytesOut: 120}}}
}

func (f *fake) rules(url.Values) []admin.CapturedBy {
	var text strings.Builder
	text.WriteString("*nat\n:USHER-SERVICES - [0:0]\n")
	for _, s := range f.services[:min(60, len(f.services))] {
		fmt.Fprintf(&text, "-A USHER-SERVICES -d %s/32 -p tcp -m tcp --dport 80 -m comment --comment %q -j DNAT --to-destination 10.0.0.3:40123\n", s.Addresses[0], s.Name)
	}
	return []admin.CapturedBy{{Family: "IPv4", Text: text.String() + "COMMIT\n"}}
}

func (f *fake) differences(url.Values) []admin.RuleDifference {
	return []admin.RuleDifference{{Family: "IPv4", Text: "missing in table nat: -A USHER-SERVICES -d 10.96.0.7/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.3:40123"}}
}

// flow is the record of the nth connection.
func (f *fake) flow(n int) map[string]any {
	s := f.services[n%min(5, len(f.services))]
	pod := fmt.Sprintf("%s/%s-7d9f-%d", s.Namespace, s.Name, n%3+1)
	r := map[string]any{
		"ts": time.Now().UTC().Format(time.RFC3339Nano), "start": time.Now().UTC().Format(time.RFC3339Nano), "id": fmt.Sprintf("boot-%d", n), "v": 1, "event": "conn.close", "level": "info", "proto": "tcp", "family": 4,
		"node": "worker-3", "ns": s.Namespace, "service": s.Name, "port_name": "http", "client_ip": "10.244.9.4", "client_port": 40000 + n, "client_ip_kind": "pod", "vip": s.Addresses[0], "vip_port": 80, "vip_kind": "cluster",
		"backend_ip": "10.244.1.17", "backend_port": 8080, "backend_pod": pod, "backend_node": "worker-1", "backend_zone": "zone-a", "bytes_in": 812 + n, "bytes_out": 21000 + n*7, "accept_wait_ms": 0, "connect_ms": 0.41,
		"first_byte_client_ms": 0.6, "first_byte_backend_ms": 4.2, "client_close": "fin", "client_close_ms": 11.8, "backend_close": "fin", "backend_close_ms": 12.4, "sent_client": "fin", "sent_backend": "fin", "duration_ms": 12.6,
		"reason": "ok", "code": "--", "side": "none", "phase": "data", "balancer": "roundrobin",
		"attempts": []any{map[string]any{"backend": "10.244.1.17:8080", "pod": pod, "start_ms": 0.03, "dur_ms": 0.38, "result": "ok"}},
		"msg":      fmt.Sprintf("%s/%s:http served by %s: both sides closed", s.Namespace, s.Name, pod),
	}
	switch {
	case s.Name == "orphan":
		for _, k := range []string{"backend_ip", "backend_port", "backend_pod", "backend_node", "backend_zone"} {
			delete(r, k)
		}
		r["level"], r["reason"], r["code"], r["side"], r["phase"], r["attempts"], r["connect_ms"], r["duration_ms"] = "warning", "no_endpoints", "NE", "proxy", "pick", []any{}, -1, 0.1
		r["first_byte_client_ms"], r["first_byte_backend_ms"], r["client_close"], r["backend_close"] = -1, -1, "none", "none"
		r["client_close_ms"], r["backend_close_ms"], r["sent_client"], r["sent_backend"], r["bytes_in"], r["bytes_out"] = -1, -1, "rst", "none", 0, 0
		r["msg"] = "shop/orphan:http: the Service has no usable endpoint"
	case n%7 == 0:
		r["level"] = "warning"
		r["attempts"] = []any{map[string]any{"backend": "10.244.4.17:8080", "pod": s.Namespace + "/" + s.Name + "-7d9f-4", "start_ms": 0.03, "dur_ms": 0.2, "result": "backend_refused", "errno": "ECONNREFUSED"},
			map[string]any{"backend": "10.244.1.17:8080", "pod": pod, "start_ms": 0.25, "dur_ms": 0.38, "result": "ok"}}
		r["reason"], r["code"], r["side"], r["errno"], r["backend_close"], r["sent_client"] = "backend_reset", "SD", "backend", "ECONNRESET", "rst", "rst"
		r["client_close"], r["client_close_ms"] = "none", -1
		r["msg"] = fmt.Sprintf("%s/%s:http served by %s after 1 failed attempt on %s/%s-7d9f-4 (ECONNREFUSED): the endpoint reset the connection", s.Namespace, s.Name, pod, s.Namespace, s.Name)
	}
	return r
}

// flows streams one record each 50 ms.
func (f *fake) flows(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if reason := q.Get("reason"); reason != "" && strings.Contains(reason, "nonsense") {
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(admin.Error{Message: `reason="nonsense": want one of: ok, client_reset`})
		return
	}
	lines := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	send := func(n int) {
		one := f.flow(n)
		if s := q.Get("service"); s != "" && s != one["service"] && s != fmt.Sprintf("%s/%s", one["ns"], one["service"]) || q.Get("errors") == "true" && one["level"] == "info" {
			return
		}
		lines.Encode(one)
		flush.Flush()
	}
	flush.Flush()
	if f.quiet {
		<-r.Context().Done()
		return
	}
	for n := range 120 {
		send(n)
	}
	lines.Encode(map[string]int{"lost": 3})
	for n := 120; ; n++ {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(50 * time.Millisecond):
			send(n)
		}
	}
}
