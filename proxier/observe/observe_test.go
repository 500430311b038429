package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
)

// setup returns an Observer that logs as JSON into out; stop writes what is
// queued.
func setup(t *testing.T) (o *Observer, m *Metrics, out *bytes.Buffer, stop func()) {
	t.Helper()
	out = &bytes.Buffer{}
	logger := logrus.New()
	logger.SetOutput(out)
	logger.SetFormatter(&logrus.JSONFormatter{})
	log := NewLog(logger)
	m = NewMetrics(prometheus.NewRegistry(), log, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return New("node-a", log, m, nil, nil), m, out, func() { log.Run(ctx) }
}

func TestRecordIsOneLineAndOneCount(t *testing.T) {
	o, m, out, stop := setup(t)
	port := m.Port("shop", "cart", "http", "tcp")
	r := o.Open(port)
	if got := port.active.Load(); got != 1 {
		t.Errorf("active %v", got)
	}
	r.Client, r.VIP = netip.MustParseAddrPort("10.0.0.9:5000"), netip.MustParseAddrPort("10.96.0.10:80")
	r.SetBackend(balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.2:8080"), Pod: "shop/cart-2"})
	r.Attempts = []Attempt{
		{Backend: netip.MustParseAddrPort("10.0.0.1:8080"), Pod: "shop/cart-1", Result: BackendRefused, Errno: "ECONNREFUSED"},
		{Backend: netip.MustParseAddrPort("10.0.0.2:8080"), Pod: "shop/cart-2", Result: OK, Duration: time.Millisecond},
	}
	r.End()
	r.Reason, r.BytesIn, r.BytesOut, r.Connect = OK, 7, 9, time.Millisecond
	o.Closed(port, r)
	stop()

	got := onlyLine(t, out.String())
	for key, want := range map[string]any{
		"event": "conn.close", "node": "node-a", "ns": "shop", "service": "cart", "port_name": "http", "proto": "tcp",
		"client_ip": "10.0.0.9", "vip": "10.96.0.10", "backend_ip": "10.0.0.2", "backend_pod": "shop/cart-2",
		"reason": "ok", "code": "--", "bytes_in": 7.0, "bytes_out": 9.0, "connect_ms": 1.0, "client_close_ms": -1.0,
		"attempts_total": 2.0, "level": "info",
		"msg": "shop/cart:http served by shop/cart-2 after 1 failed attempt on shop/cart-1 (ECONNREFUSED): both sides closed after 0.0 ms",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	first := got["attempts"].([]any)[0].(map[string]any)
	if first["errno"] != "ECONNREFUSED" || first["backend"] != "10.0.0.1:8080" || first["result"] != "backend_refused" {
		t.Errorf("first attempt %v", first)
	}
	all := series(t, m, "tcp")
	for name, want := range map[string]float64{
		"usher_connections_total": 1, "usher_retries_total": 1, "usher_retry_success_total": 1, "usher_connections_active": 0,
		"usher_connect_attempts_total ok": 1, "usher_connect_attempts_total backend_refused": 1, "usher_connection_closes_total ok": 1,
		"usher_bytes_total in": 7, "usher_bytes_total out": 9, "usher_connections_waiting": 0, "usher_retries_denied_total": 0,
	} {
		if n, ok := all[name]; n != want || !ok {
			t.Errorf("%s is %v (%v), want %v", name, n, ok, want)
		}
	}
	port.Forget()
	if n := len(series(t, m, "tcp")); n != 0 {
		t.Errorf("%d series are left of a forgotten port", n)
	}
}

// A log that nobody reads costs records, the oldest first, and never time.
func TestFullLogDropsTheOldest(t *testing.T) {
	o, m, out, stop := setup(t)
	port := m.Port("shop", "cart", "", "tcp")
	for range queueLength + 10 {
		o.Closed(port, o.Open(port))
	}
	if n := o.log.Dropped(); n != 10 {
		t.Errorf("%d dropped, want 10", n)
	}
	stop()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != queueLength || !strings.Contains(lines[0], "-11\"") {
		t.Errorf("%d lines, the first is %s", len(lines), lines[0])
	}
}

func TestEveryReasonHasAMeaning(t *testing.T) {
	tested := 0
	for _, r := range []Reason{
		OK, ClientAbort, ClientReset, ClientGone, BackendRefused, BackendUnreachable, ConnectTimeout, BackendReset, BackendGone,
		HalfCloseTimeout, IdleTimeout, MaxDuration, RetriesExhausted, NoEndpoints, NoReadyEndpoints, NoLocalEndpoints, AdminKilled, DirectAccess, SourceDenied, LimitGlobal, LimitService, LimitBackend, LimitClient, RateLimited, BackendResetEarly, EndpointUnhealthy, OutOfFiles, OutOfMemory,
		OutOfPorts, Idle, Evicted, EndpointRemoved, ServiceRemoved, Shutdown, SocketDestroyed, Superseded, Abandoned, InternalError,
	} {
		if len(r.Code()) != 2 || r.Side() == "" || r.Phase() == "" || r.Text() == "" {
			t.Errorf("%s: %+v", r, meanings[r])
		}
		tested++
	}
	if tested != len(meanings) {
		t.Errorf("%d reasons have a meaning, %d were tested", len(meanings), tested)
	}
}

// onlyLine is the one line of a JSON log.
func onlyLine(t *testing.T, log string) (fields map[string]any) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if len(lines) != 1 {
		t.Fatalf("%d lines:\n%s", len(lines), log)
	}
	if err := json.Unmarshal([]byte(lines[0]), &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}
