package bench

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkUDP measures DNS queries through each path, from few clients and from many.
func BenchmarkUDP(b *testing.B) {
	r := &Report{
		name: "udp",
		columns: []column{{rate, 0}, {lost, 2}, {p50, 0}, {p99, 0},
			{pacedP50, 0}, {pacedP99, 0}, {cpu, 2}, {others, 0}},
		comparisons: []comparison{{rate, "nginx"}, {rate, "DNAT"}, {p99, "nginx"}, {pacedP99, "nginx"}, {cpu, "nginx"}},
	}
	for _, ld := range []load{{"8-sockets", 8}, {fmt.Sprintf("%d-clients", *manyClients), *manyClients}} {
		inTurn(b, r, ld.name, paths, func(l *lab, rt route) (map[string]float64, error) {
			return measureLoad(l, rt, ld)
		})
	}
	publish(b, r)
}

// BenchmarkUDPSessions measures what many sessions that are all kept take. DNAT's is the share
// of the kernel's connection tracking, once; that of proxies is in it twice.
func BenchmarkUDPSessions(b *testing.B) {
	r := &Report{
		name:        "udp-sessions",
		columns:     []column{{rss, 1}, {rssEach, 0}, {slabEach, 0}, {fdsEach, 2}, {cpuSession, 1}, {others, 0}},
		comparisons: []comparison{{rssEach, "nginx"}, {slabEach, "nginx"}},
	}
	inTurn(b, r, fmt.Sprintf("%d-sessions", *sessions), paths[1:], measureSessions)
	publish(b, r)
}

// A measure is what is measured of a path once it answers, by column.
type measure func(*lab, route) (map[string]float64, error)

// inTurn lets each path have its turn in each round, beginning with another one each time. A
// path that does not answer is not tried again.
func inTurn(b *testing.B, r *Report, load string, paths []path, of measure) {
	paths = slices.Clone(paths)
	for round := range *rounds {
		for i := range paths {
			p := &paths[(round+i)%len(paths)]
			if p.start == nil {
				continue
			}
			b.Run(fmt.Sprintf("%s/%s/round-%d", load, p.name, round+1), func(b *testing.B) {
				values, available := measurePath(b, *p, of)
				if !available {
					p.start = nil
					b.SkipNow()
				}
				b.ReportMetric(0, "ns/op")
				for unit, v := range values {
					b.ReportMetric(v, unit)
				}
				r.add(Measurement{Round: round + 1, Load: load, Path: p.name, Values: values})
			})
		}
	}
}

// measurePath measures a path in a lab of its own, if it answers there.
func measurePath(b *testing.B, p path, of measure) (values map[string]float64, available bool) {
	l := newLab(b)
	rt := p.start(l)
	if err := l.awaitAnswer(rt.addr); err != nil {
		fmt.Printf("%s: not available: %v\n%s", p.name, err, tail(rt.output))
		return nil, false
	}
	values, err := of(l, rt)
	if err != nil {
		b.Fatalf("%s: %v\n%s", p.name, err, tail(rt.output))
	}
	return values, true
}

// measureLoad measures the path once its sessions are there.
func measureLoad(l *lab, rt route, ld load) (map[string]float64, error) {
	if _, err := l.dnsperf(rt.addr, ld, asFastAsAnswered, *warmUp); err != nil {
		return nil, err
	}
	return quietly(*tries, func() (map[string]float64, error) { return measureLoadOnce(l, rt, ld) })
}

// measureLoadOnce measures full load and then latency at a rate that every path can take.
func measureLoadOnce(l *lab, rt route, ld load) (map[string]float64, error) {
	before, err := usageOf(rt.proxy)
	if err != nil {
		return nil, err
	}
	full, err := l.dnsperf(rt.addr, ld, asFastAsAnswered, *duration)
	if err != nil {
		return nil, err
	}
	after, err := usageOf(rt.proxy)
	if err != nil {
		return nil, err
	}
	paced, err := l.dnsperf(rt.addr, ld, *pace, *pacedFor)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{
		rate: full.QPS, lost: full.Lost(), p50: us(full.P50), p99: us(full.P99),
		pacedP50: us(paced.P50), pacedP99: us(paced.P99),
	}
	if rt.proxy != nil {
		values[cpu] = us(after.CPU-before.CPU) / float64(full.Completed)
	}
	return values, nil
}

// measureSessions opens all sockets of the clients first, so that these do not count.
func measureSessions(l *lab, rt route) (map[string]float64, error) {
	clients := l.openClients(*sessions, rt.addr)
	return quietly(1, func() (map[string]float64, error) { return measureClients(clients, rt) })
}

func measureClients(clients []net.Conn, rt route) (map[string]float64, error) {
	slabBefore, err := settledSlab()
	if err != nil {
		return nil, err
	}
	before, err := usageOf(rt.proxy)
	if err != nil {
		return nil, err
	}
	if err := askAll(clients); err != nil {
		return nil, err
	}
	slabAfter, err := settledSlab()
	if err != nil {
		return nil, err
	}
	after, err := usageOf(rt.proxy)
	if err != nil {
		return nil, err
	}
	n := float64(len(clients))
	values := map[string]float64{slabEach: float64(slabAfter-slabBefore) / n}
	if rt.proxy != nil {
		values[rss] = float64(after.RSS) / 1e6
		values[rssEach] = float64(after.RSS-before.RSS) / n
		values[fdsEach] = float64(after.FDs-before.FDs) / n
		values[cpuSession] = us(after.CPU-before.CPU) / n
	}
	return values, nil
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// tail is the end of a file of text, as far as it can be read.
func tail(path string) string {
	const most = 2000
	text, _ := os.ReadFile(path)
	text = text[max(0, len(text)-most):]
	return strings.ToValidUTF8(string(text), "")
}

func publish(b *testing.B, r *Report) {
	if len(r.measurements) == 0 {
		return // none was asked for
	}
	if err := r.publish(*results); err != nil {
		b.Fatal(err)
	}
}
