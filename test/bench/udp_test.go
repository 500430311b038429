package bench

import (
	"fmt"
	"net"
	"testing"
)

// udpPaths are those that pass datagrams on.
var udpPaths = without(paths, "HAProxy")

// BenchmarkUDP measures DNS queries through each path, from few clients and from many.
func BenchmarkUDP(b *testing.B) {
	r := &Report{
		name: "udp",
		columns: []column{{rate, 0}, {lost, 2}, {p50, 0}, {p99, 0},
			{pacedP50, 0}, {pacedP99, 0}, {cpu, 2}, {others, 0}},
		comparisons: []comparison{{column: rate, path: "nginx"}, {column: rate, path: "DNAT"}, {column: p99, path: "nginx"}, {column: pacedP99, path: "nginx"}, {column: cpu, path: "nginx"}},
	}
	for _, ld := range []load{{"8-sockets", 8}, {fmt.Sprintf("%d-clients", *manyClients), *manyClients}} {
		inTurn(b, r, turn{load: ld.name, proto: dnsProtocol, paths: udpPaths, rounds: *rounds, of: func(l *lab, rt route) (map[string]float64, error) {
			return measureLoad(l, rt, ld)
		}})
	}
	publish(b, r)
}

// BenchmarkUDPSessions measures what many sessions that are all kept take. DNAT's is the share
// of the kernel's connection tracking, once; that of proxies is in it twice.
func BenchmarkUDPSessions(b *testing.B) {
	r := &Report{
		name:        "udp-sessions",
		columns:     []column{{rss, 1}, {rssEach, 0}, {slabEach, 0}, {fdsEach, 2}, {cpuSession, 1}, {others, 0}},
		comparisons: []comparison{{column: rssEach, path: "nginx"}, {column: slabEach, path: "nginx"}},
	}
	inTurn(b, r, turn{load: fmt.Sprintf("%d-sessions", *sessions), proto: dnsProtocol,
		paths: without(udpPaths, "direct"), rounds: *rounds, of: measureSessions})
	publish(b, r)
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
