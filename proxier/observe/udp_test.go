package observe

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/usher-proxy/usher/balancer"
)

// dns returns the metrics of kube-dns, and a session of it that went well: it
// was opened, has relayed and is not closed yet.
func dns(o *Observer, m *Metrics) (*PortMetrics, *Record) {
	port := m.Port("kube-system", "kube-dns", "dns", "udp")
	start := time.Now()
	o.Opened(port)
	port.Datagrams(2, 80, 0, 0)
	port.Datagrams(0, 0, 2, 300)
	r := o.Record(port, start)
	r.Client, r.VIP = netip.MustParseAddrPort("10.244.0.9:5000"), netip.MustParseAddrPort("10.96.0.10:53")
	r.SetBackend(balancer.Endpoint{Addr: netip.MustParseAddrPort("10.244.0.2:53"), Pod: "kube-system/coredns-1"})
	r.DatagramsIn, r.BytesIn, r.DatagramsOut, r.BytesOut = 2, 80, 2, 300
	r.Reason, r.FirstReply = Idle, 1500*time.Microsecond
	return port, r
}

func TestSessionIsOneLineAndOneCount(t *testing.T) {
	o, m, out, stop := setup(t)
	port, r := dns(o, m)
	if n := series(t, m, "udp")["usher_udp_sessions_active"]; n != 1 {
		t.Errorf("%v sessions are active", n)
	}
	o.Closed(port, r)
	stop()

	got := onlyLine(t, out.String())
	for key, want := range map[string]any{
		"event": "udp.close", "node": "node-a", "ns": "kube-system", "service": "kube-dns", "port_name": "dns", "proto": "udp",
		"client_ip": "10.244.0.9", "vip": "10.96.0.10", "backend_ip": "10.244.0.2", "backend_pod": "kube-system/coredns-1",
		"reason": "idle", "code": "iD", "side": "proxy", "phase": "data", "level": "info",
		"dgrams_in": 2.0, "dgrams_out": 2.0, "dgrams_dropped": 0.0, "bytes_in": 80.0, "bytes_out": 300.0,
		"first_byte_backend_ms": 1.5,
		"msg":                   "kube-system/kube-dns:dns served by kube-system/coredns-1 (2 datagrams in, 2 out): no more datagrams came",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	for _, key := range []string{
		"client_close", "client_close_ms", "backend_close", "backend_close_ms", "sent_client", "sent_backend", "connect_ms",
		"attempts", "attempts_total", "svc_active", "global_active",
	} {
		if v, ok := got[key]; ok {
			t.Errorf("%s says %v of a UDP session", key, v)
		}
	}
	all := series(t, m, "udp")
	for name, want := range map[string]float64{
		"usher_bytes_total in": 80, "usher_bytes_total out": 300,
		"usher_udp_datagrams_total in": 2, "usher_udp_datagrams_total out": 2,
		"usher_udp_sessions_total": 1, "usher_udp_sessions_active": 0, "usher_udp_session_closes_total idle": 1,
		"usher_udp_drops_total queue": 0,
	} {
		if got, ok := all[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// series are the values of all series with a protocol, by their name and the
// label that not every metric has.
func series(t *testing.T, m *Metrics, protocol string) map[string]float64 {
	t.Helper()
	families, err := gatherer(m).Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, one := range family.Metric {
			name, of := family.GetName(), ""
			for _, label := range one.Label {
				switch label.GetName() {
				case "protocol":
					of = label.GetValue()
				case "direction", "reason", "cause", "result", "state":
					name += " " + label.GetValue()
				}
			}
			if of == protocol {
				values[name] = one.GetCounter().GetValue() + one.GetGauge().GetValue()
			}
		}
	}
	return values
}

// gatherer reads all metrics with the labels of a port.
func gatherer(m *Metrics) prometheus.Gatherer {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	return registry
}

// A session is a warning only if its client may have missed something.
func TestOnlyTroubleIsAWarning(t *testing.T) {
	never := func(r *Record) { r.DatagramsOut, r.BytesOut, r.FirstReply = 0, 0, -1 }
	ends := func(reason Reason, more ...func(*Record)) func(*Record) {
		return func(r *Record) {
			r.Reason = reason
			for _, change := range more {
				change(r)
			}
		}
	}
	for _, c := range []struct {
		what    func(*Record)
		level   string
		message string
	}{
		{ends(Idle), "info",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out): no more datagrams came"},
		{ends(Idle, never), "info",
			"passed to kube-system/coredns-1 (2 datagrams in, never answered): no more datagrams came"},
		{ends(Idle, func(r *Record) { r.Dropped = 1 }), "warning",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out, 1 dropped): no more datagrams came"},
		{ends(Evicted), "info",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out): it made room for another session"},
		{ends(Evicted, never), "warning",
			"passed to kube-system/coredns-1 (2 datagrams in, never answered): it made room for another session"},
		{ends(EndpointRemoved), "info",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out): the endpoint no longer belongs to the Service"},
		{ends(EndpointRemoved, never), "warning",
			"passed to kube-system/coredns-1 (2 datagrams in, never answered): the endpoint no longer belongs to the Service"},
		{ends(ServiceRemoved), "info",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out): the Service no longer has this port"},
		{ends(Shutdown), "info",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out): usher stopped"},
		{ends(Shutdown, func(r *Record) { r.Dropped = 1 }), "warning",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out, 1 dropped): usher stopped"},
		{ends(BackendRefused), "warning",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out): the endpoint refused"},
		{ends(BackendRefused, never, func(r *Record) { r.DatagramsIn = 1 }), "warning",
			"passed to kube-system/coredns-1 (1 datagram in, never answered): the endpoint refused"},
		{ends(OutOfFiles, never, func(r *Record) { r.SetBackend(balancer.Endpoint{}) }), "warning",
			"(2 datagrams in, never answered): usher is out of file descriptors"},
		{ends(Idle, func(r *Record) {
			r.Attempts = []Attempt{{Backend: netip.MustParseAddrPort("10.244.0.3:53"), Result: BackendRefused, Errno: "ECONNREFUSED"}}
		}), "info",
			"served by kube-system/coredns-1 (2 datagrams in, 2 out) after 1 failed attempt on 10.244.0.3:53 (ECONNREFUSED): no more datagrams came"},
	} {
		o, m, out, stop := setup(t)
		port, r := dns(o, m)
		c.what(r)
		o.Closed(port, r)
		stop()
		var got struct{ Level, Msg string }
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if want := "kube-system/kube-dns:dns " + c.message; got.Level != c.level || got.Msg != want {
			t.Errorf("%s: %s\nwant %s: %s", got.Level, got.Msg, c.level, want)
		}
	}
}

// What ends a session without harm breaks a connection.
func TestConnectionThatUsherEndsIsTrouble(t *testing.T) {
	o, m, _, _ := setup(t)
	r := o.Open(m.Port("shop", "cart", "", "tcp"))
	r.End()
	r.FirstReply = 0
	for _, reason := range []Reason{Evicted, EndpointRemoved, ServiceRemoved, Shutdown} {
		if r.Reason = reason; !r.Trouble() {
			t.Errorf("%s is no trouble for a connection", reason)
		}
	}
}

// A session tells which endpoints had refused its client before, and retries
// count none of them: each had a record of its own.
func TestSessionTellsWhoRefusedBefore(t *testing.T) {
	o, m, _, _ := setup(t)
	port, r := dns(o, m)
	r.Attempts = []Attempt{{Backend: netip.MustParseAddrPort("10.244.0.3:53"), Result: BackendRefused}, {Result: OK}}
	o.Closed(port, r)
	if f := r.Fields(); f["attempts_total"] != int64(2) || !strings.HasPrefix(f["attempts"].(attempts).String(), "10.244.0.3:53=backend_refused") {
		t.Errorf("attempts %v of %v", f["attempts"], f["attempts_total"])
	}
	if n := testutil.CollectAndCount(m, "usher_connect_attempts_total", "usher_retries_total"); n != 0 {
		t.Errorf("%d series count attempts to connect", n)
	}
}

// Two ports that differ only in their protocol have only their own series, and
// each can be forgotten without the other.
func TestSeriesAreOfOneProtocol(t *testing.T) {
	o, m, _, _ := setup(t)
	both := map[string]*PortMetrics{}
	for _, protocol := range []string{"tcp", "udp"} {
		port := m.Port("kube-system", "kube-dns", "dns", protocol)
		both[protocol] = port
		port.Endpoints("IPv4", 1, 1, 0)
		port.Affinity(1, 1)
		port.Datagrams(1, 1, 1, 1)
		port.Dropped(DropQueue, 1)
		r := o.Open(port)
		r.End()
		r.Attempts = []Attempt{{Result: OK}}
		o.Closed(port, r)
	}
	common := []string{"usher_affinity_clients", "usher_affinity_evicted_total", "usher_bytes_total", "usher_endpoints"}
	onlyTCP := []string{"usher_connect_attempts_total", "usher_connection_closes_total", "usher_connections_active",
		"usher_connections_total", "usher_retries_total", "usher_connections_waiting", "usher_retries_denied_total", "usher_retry_success_total"}
	onlyUDP := []string{"usher_udp_datagrams_total", "usher_udp_drops_total", "usher_udp_session_closes_total",
		"usher_udp_sessions_active", "usher_udp_sessions_total"}
	compare := func(protocol string, want []string) {
		t.Helper()
		names := map[string]bool{}
		for name := range series(t, m, protocol) {
			names[strings.Fields(name)[0]] = true
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(names)); !slices.Equal(got, want) {
			t.Errorf("a %s port has %v\nwant %v", protocol, got, want)
		}
	}
	compare("tcp", slices.Concat(common, onlyTCP))
	compare("udp", slices.Concat(common, onlyUDP))

	both["udp"].Forget()
	both["udp"].Datagrams(1, 1, 1, 1) // late, and brings nothing back
	both["udp"].Dropped(DropQueue, 1)
	compare("udp", nil)
	compare("tcp", slices.Concat(common, onlyTCP))
	both["tcp"].Forget()
	compare("tcp", nil)
}

func TestDropsAreCountedByCause(t *testing.T) {
	_, m, _, _ := setup(t)
	port := m.Port("shop", "log", "", "udp")
	names := []string{"no_endpoint", "session_limit", "too_big", "queue", "source_denied", "loop", "res", "refused", "error"}
	for i, cause := range []DropCause{
		DropNoEndpoint, DropSessionLimit, DropTooBig, DropQueue, DropSourceDenied, DropLoop, DropResources, DropRefused, DropError,
	} {
		if cause.String() != names[i] {
			t.Errorf("%s, want %s", cause, names[i])
		}
		port.Dropped(cause, i+1)
		port.Dropped(cause, 0)
		port.Dropped(cause, -1)
		if n := series(t, m, "udp")["usher_udp_drops_total "+names[i]]; n != float64(i+1) {
			t.Errorf("%s counts %v, want %d", cause, n, i+1)
		}
	}
	port.Dropped(200, 1)
	if n := series(t, m, "udp")["usher_udp_drops_total error"]; n != 10 {
		t.Errorf("what is no cause is not counted as error: %v", n)
	}
	if n := testutil.CollectAndCount(m, "usher_udp_drops_total"); n != len(dropCauses) || n != len(names) {
		t.Errorf("%d series, %d causes", n, len(dropCauses))
	}
}

// Loops count into one port at the same time, without a lock and without
// allocating, while sessions begin and end and somebody reads the metrics.
func TestManyLoopsCountTogether(t *testing.T) {
	o, m, _, _ := setup(t)
	port := m.Port("shop", "log", "", "udp")
	const loops, batches = 8, 200
	var all sync.WaitGroup
	for range loops {
		all.Go(func() {
			for range batches {
				o.Opened(port)
				port.Datagrams(3, 30, 2, 20)
				port.Dropped(DropTooBig, 1)
				r := o.Record(port, time.Now())
				r.Reason, r.BytesIn = Idle, 30
				o.Closed(port, r)
				if _, err := gatherer(m).Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	now := series(t, m, "udp")
	for what, got := range map[string]float64{
		"datagrams in": now["usher_udp_datagrams_total in"] / 3, "bytes in": now["usher_bytes_total in"] / 30,
		"datagrams out": now["usher_udp_datagrams_total out"] / 2, "bytes out": now["usher_bytes_total out"] / 20,
		"drops": now["usher_udp_drops_total too_big"], "sessions": now["usher_udp_sessions_total"],
		"closes": now["usher_udp_session_closes_total idle"],
	} {
		if got != loops*batches {
			t.Errorf("%s: %v batches were counted, want %d", what, got, loops*batches)
		}
	}
	if n := now["usher_udp_sessions_active"]; n != 0 {
		t.Errorf("%v sessions are active", n)
	}
}

// A port that nothing was sent to has only what says how many endpoints it has: there
// may be very many of these.
func TestAnIdlePortHasFewSeries(t *testing.T) {
	o, m, _, _ := setup(t)
	for _, protocol := range []string{"tcp", "udp"} {
		port := m.Port("shop", "cart", "", protocol)
		port.Endpoints("IPv4", 5, 0, 0)
		port.Ill("IPv4", 0)
		want := map[string]float64{"usher_endpoints usable": 5, "usher_endpoints ejected": 0}
		if got := series(t, m, protocol); !maps.Equal(got, want) {
			t.Errorf("an idle %s port has %v, want %v", protocol, got, want)
		}
		port.Endpoints("IPv4", 5, 2, 0)
		port.Endpoints("IPv4", 5, 0, 0)
		want["usher_endpoints local"] = 0 // what was there once does not vanish
		if got := series(t, m, protocol); !maps.Equal(got, want) {
			t.Errorf("without local endpoints again there are %v, want %v", got, want)
		}
		o.Opened(port)
		if n := len(series(t, m, protocol)); n < 10 {
			t.Errorf("a %s port that is used has %d series", protocol, n)
		}
	}
}

// What was counted before session affinity was turned off stays.
func TestEvictedClientsOfAllTimes(t *testing.T) {
	_, m, _, _ := setup(t)
	port := m.Port("shop", "cart", "", "tcp")
	port.Affinity(7, 3)
	port.NoAffinity()
	if got, want := series(t, m, "tcp"), map[string]float64{"usher_affinity_evicted_total": 3}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	port.Affinity(1, 2)
	if got := series(t, m, "tcp"); got["usher_affinity_evicted_total"] != 5 || got["usher_affinity_clients"] != 1 {
		t.Errorf("%v", got)
	}
}

func TestHotCountersAllocateNothing(t *testing.T) {
	o, m, _, _ := setup(t)
	port := m.Port("shop", "log", "", "udp")
	if n := testing.AllocsPerRun(1000, func() {
		o.Opened(port)
		port.Datagrams(32, 4000, 32, 4000)
		port.Dropped(DropQueue, 5)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The record of a session is made at its end and knows its beginning; IDs tell
// all records apart.
func TestRecordMadeAtTheEnd(t *testing.T) {
	var last *Record
	o, m, _, _ := setup(t)
	o.onClosed = func(r *Record) { last = r }
	port := m.Port("shop", "log", "", "udp")
	start := time.Now().Add(-time.Minute)
	o.Opened(port)
	r := o.Record(port, start)
	if r.Start != start || r.Protocol != "udp" || r.FirstReply != -1 || r.ID() == o.Record(port, start).ID() {
		t.Errorf("%+v", r)
	}
	o.Closed(port, r)
	if last != r || r.Duration < time.Minute || r.Duration > 2*time.Minute {
		t.Errorf("after %s %+v was told", r.Duration, last)
	}
}

func BenchmarkDatagrams(b *testing.B) {
	port := NewMetrics(prometheus.NewRegistry(), &Log{}, nil).Port("shop", "log", "", "udp")
	b.ReportAllocs()
	for b.Loop() {
		port.Datagrams(32, 4000, 32, 4000)
	}
}

func BenchmarkSession(b *testing.B) {
	log := NewLog(nil)
	m := NewMetrics(prometheus.NewRegistry(), log, nil)
	o, port := New("node-a", log, m, nil, nil), m.Port("shop", "log", "", "udp")
	b.ReportAllocs()
	for b.Loop() {
		o.Opened(port)
		o.Closed(port, o.Record(port, time.Now()))
	}
}
