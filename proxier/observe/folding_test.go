package observe

import (
	"fmt"
	"strings"
	"testing"
)

// sum is that of all series of a metric.
func sum(values map[string]float64, metric string) (n float64) {
	for name, value := range values {
		if strings.HasPrefix(name, metric+" ") {
			n += value
		}
	}
	return n
}

// busy is a Service port that some connections have ended on.
func busy(o *Observer, m *Metrics, name string, connections int) *PortMetrics {
	p := m.Port("shop", name, "http", "tcp")
	p.Endpoints("IPv4", 2, 1, 0)
	for range connections {
		r := o.Open(p)
		r.End()
		r.Reason, r.BytesIn = OK, 10
		o.Closed(p, r)
	}
	return p
}

func TestSeriesBeyondTheLimitAreFolded(t *testing.T) {
	m := newMetrics(NewLog(nil), nil)
	o := New("node", NewLog(nil), m.Metrics, nil, nil)
	m.Limit(2 * portSeries)
	first, second := busy(o, m.Metrics, "web-0", 1), busy(o, m.Metrics, "web-1", 2)
	third, fourth := busy(o, m.Metrics, "web-2", 4), busy(o, m.Metrics, "web-3", 8)
	const closes, all = "usher_connection_closes_total", " _other  tcp ok _other"

	g := gathered(t, m)
	if sum(g, closes) != 15 || sum(g, "usher_connections_total") != 15 || sum(g, "usher_bytes_total") != 150 || sum(g, "usher_endpoints") != 12 {
		t.Errorf("sums are wrong: %v", g)
	}
	if got := g["usher_metrics_folded_ports"]; got != 2 || g[closes+all] != 12 {
		t.Errorf("%v ports are folded, with %v connections", got, g[closes+all])
	}

	first.Forget() // there is room again, but who was folded stays so: counters must not fall
	fourth.Forget()
	g = gathered(t, m)
	if g["usher_metrics_folded_ports"] != 1 || g[closes+all] != 12 || g["usher_connections_active _other  tcp _other"] != 0 {
		t.Errorf("after one of each went: %v", g)
	}
	if name := "usher_endpoints IPv4 _other  tcp _other usable"; g[name] != 2 {
		t.Errorf("endpoints of who is gone are still counted: %v", g[name])
	}
	busy(o, m.Metrics, "web-4", 16)
	if g = gathered(t, m); g[closes+" shop http tcp ok web-4"] != 16 {
		t.Errorf("one that came later, into the room that is free: %v", g)
	}
	_, _ = second, third
}

// A port that nobody has used shows how many endpoints it has as long as there is room,
// and loses that to one that is used.
func TestWhatIsUsedComesFirst(t *testing.T) {
	m := newMetrics(NewLog(nil), nil)
	o := New("node", NewLog(nil), m.Metrics, nil, nil)
	m.Limit(portSeries)
	for i := range 20 {
		m.Port("shop", fmt.Sprint("idle-", i), "", "udp").Endpoints("IPv6", 1, 0, 0)
	}
	if n := gathered(t, m)["usher_metrics_folded_ports"]; n != 0 {
		t.Errorf("%v of 20 ports with one series each are folded", n)
	}
	busy(o, m.Metrics, "web", 1)
	g := gathered(t, m)
	if n := g["usher_metrics_folded_ports"]; n < 10 || g["usher_connections_total shop http tcp web"] != 1 {
		t.Errorf("%v ports are folded: %v", n, g)
	}
	if len(g) > 2*portSeries {
		t.Errorf("%d series", len(g))
	}
}

func TestNoLimit(t *testing.T) {
	m := newMetrics(NewLog(nil), nil)
	o := New("node", NewLog(nil), m.Metrics, nil, nil)
	for i := range 100 {
		busy(o, m.Metrics, fmt.Sprint("web-", i), 1)
	}
	if g := gathered(t, m); g["usher_metrics_folded_ports"] != 0 || g["usher_connections_total shop http tcp web-99"] != 1 {
		t.Errorf("%v", g["usher_metrics_folded_ports"])
	}
}
