package bench

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// BenchmarkTCP measures requests, connections, bulk, and what idle connections take, through
// each path.
func BenchmarkTCP(b *testing.B) {
	r := newTCPReport()
	for _, t := range tcpTurns() {
		inTurn(b, r, t)
	}
	publish(b, r)
}

func newTCPReport() *Report {
	return &Report{
		name: "tcp",
		columns: []column{
			{requestRate, 0}, {p50, 0}, {p99, 0}, {cpuRequest, 2},
			{connectionRate, 0}, {newP99, 0}, {cpuConnection, 1},
			{bulkRate, 2}, {cpuGB, 3}, {retransmits, 0},
			{held, 0}, {pssEach, 0}, {rssEachConn, 0}, {slabEachConn, 0}, {fdsEachConn, 2},
			{besideP99, 0}, {besideCPU, 2},
			{others, 0},
		},
		comparisons: []comparison{
			{column: requestRate, path: "nginx"}, {column: requestRate, path: "HAProxy"},
			{column: p50, path: "nginx"}, {column: p99, path: "nginx"},
			{column: cpuRequest, path: "nginx"}, {column: cpuRequest, path: "HAProxy"},
			{column: connectionRate, path: "nginx"}, {column: connectionRate, path: "HAProxy"},
			{column: newP99, path: "nginx"},
			{column: cpuConnection, path: "nginx"}, {column: cpuConnection, path: "HAProxy"},
			{column: bulkRate, path: "HAProxy"}, {column: bulkRate, path: "DNAT"}, {column: cpuGB, path: "HAProxy"},
			{column: pssEach, path: "HAProxy"}, {column: slabEachConn, path: "HAProxy"},
			{column: besideP99, base: p99}, {column: besideCPU, base: cpuRequest},
			{column: requestRate, path: oneService}, {column: cpuRequest, path: oneService},
			{column: p99, path: oneService},
			{column: connectionRate, path: oneService}, {column: cpuConnection, path: oneService},
		},
		charts: []chart{
			{requestRate, "Requests per second (more is better)"},
			{p50, "Latency, median, microseconds (less is better)"},
			{p99, "Latency, 99th percentile, microseconds (less is better)"},
			{besideP99, "Latency, 99th percentile, beside idle connections (less is better)"},
			{cpuRequest, "CPU time of the proxy per request, microseconds (less is better)"},
			{besideCPU, "CPU time per request, beside idle connections (less is better)"},
			{connectionRate, "New connections per second (more is better)"},
			{cpuConnection, "CPU time of the proxy per connection, microseconds (less is better)"},
			{bulkRate, "Gbit per second (more is better)"},
			{cpuGB, "CPU time of the proxy per gigabyte, seconds (less is better)"},
			{held, "Idle connections held (more is better)"},
			{pssEach, "Memory of the proxy per idle connection, bytes (less is better)"},
			{slabEachConn, "Kernel memory per idle connection, with both ends, bytes (less is better)"},
			{fdsEachConn, "Open files of the proxy per idle connection (less is better)"},
		},
	}
}

// tcpTurns are the workloads.
func tcpTurns() []turn {
	http := func(load string, paths []path, of measure) turn {
		return turn{load: load, proto: httpProtocol, paths: paths, rounds: *rounds, of: of}
	}
	bulk := func(load string, streams int) turn {
		return turn{load: load, proto: iperfProtocol, paths: paths, rounds: *rounds, of: bulkOf(streams)}
	}
	idleTurn := http("idle", paths, measureIdle)
	idleTurn.rounds = min(*rounds, *idleRounds)
	return []turn{
		http("keep-alive", paths, requestsOf(32)),
		http("one-connection", paths, requestsOf(1)),
		http("new-connections", paths, measureConnections),
		bulk("bulk-1", 1),
		bulk("bulk-4", 4),
		idleTurn,
		http("beside-idle", proxies, measureBeside),
		http("services", servicePaths(), measureServices),
	}
}

// requestsOf measures requests on connections that are kept.
func requestsOf(connections int) measure {
	return func(l *lab, rt route) (map[string]float64, error) {
		ld := httpLoad{connections: connections}
		if err := warmHTTP(l, rt, ld); err != nil {
			return nil, err
		}
		return quietly(*tries, func() (map[string]float64, error) { return measureRequests(l, rt, ld) })
	}
}

// warmHTTP puts a load on a path that does not count.
func warmHTTP(l *lab, rt route, ld httpLoad) error {
	if *warmUp == 0 {
		return nil
	}
	_, err := l.wrk(rt.addr, ld, *warmUp)
	return err
}

func measureRequests(l *lab, rt route, ld httpLoad) (map[string]float64, error) {
	run, spent, err := timedHTTP(l, rt, ld)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{requestRate: run.Rate, p50: us(run.P50), p99: us(run.P99)}
	if rt.proxy != nil {
		values[cpuRequest] = us(spent) / float64(run.Requests)
	}
	return values, nil
}

// timedHTTP puts a load on a path, and tells what of the processors the proxy spent on it.
func timedHTTP(l *lab, rt route, ld httpLoad) (run HTTPRun, spent time.Duration, err error) {
	spent, err = spentBy(rt, func() (err error) {
		run, err = l.wrk(rt.addr, ld, *duration)
		return err
	})
	return run, spent, err
}

// spentBy is the time of processors that the proxy takes while something runs.
func spentBy(rt route, f func() error) (time.Duration, error) {
	before, err := usageOf(rt.proxy)
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := usageOf(rt.proxy)
	return after.CPU - before.CPU, err
}

// measureConnections measures connections of one request each, as many at a time as there are of
// those that are kept.
func measureConnections(l *lab, rt route) (map[string]float64, error) {
	if err := warmHTTP(l, rt, newConnections); err != nil {
		return nil, err
	}
	return quietly(*tries, func() (map[string]float64, error) { return measureConnectionsOnce(l, rt) })
}

var newConnections = httpLoad{connections: 32, anew: true}

func measureConnectionsOnce(l *lab, rt route) (map[string]float64, error) {
	run, spent, err := timedHTTP(l, rt, newConnections)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{connectionRate: run.Rate, newP99: us(run.P99)}
	if rt.proxy != nil {
		values[cpuConnection] = us(spent) / float64(run.Requests)
	}
	return values, nil
}

// bulkOf measures connections that carry as much as they can.
func bulkOf(streams int) measure {
	return func(l *lab, rt route) (map[string]float64, error) {
		if *warmUp > 0 {
			if _, err := l.iperfFor(rt.addr, streams, *warmUp); err != nil {
				return nil, err
			}
		}
		return quietly(*tries, func() (map[string]float64, error) { return measureBulk(l, rt, streams) })
	}
}

func measureBulk(l *lab, rt route, streams int) (map[string]float64, error) {
	var run BulkRun
	spent, err := spentBy(rt, func() (err error) {
		run, err = l.iperfFor(rt.addr, streams, *duration)
		return err
	})
	if err != nil {
		return nil, err
	}
	gigabytes := float64(run.Bytes) / 1e9
	values := map[string]float64{bulkRate: run.Gbits, retransmits: float64(run.Again) / gigabytes}
	if rt.proxy != nil {
		values[cpuGB] = spent.Seconds() / gigabytes
	}
	return values, nil
}

// measureIdle measures what connections take that were asked once and are held, after a load:
// what a proxy keeps of that is not theirs.
func measureIdle(l *lab, rt route) (map[string]float64, error) {
	if err := warmHTTP(l, rt, httpLoad{connections: 32}); err != nil {
		return nil, err
	}
	return quietly(1, func() (map[string]float64, error) { return measureIdleOnce(l, rt) })
}

func measureIdleOnce(l *lab, rt route) (map[string]float64, error) {
	before, slabBefore, err := settledMemory(rt)
	if err != nil {
		return nil, err
	}
	h, err := l.hold(*idle, rt.addr)
	if err != nil {
		return nil, err
	}
	after, slabAfter, err := settledMemory(rt)
	if err != nil {
		return nil, err
	}
	n := float64(h.Held)
	values := map[string]float64{held: n, slabEachConn: float64(slabAfter-slabBefore) / n}
	if rt.proxy != nil {
		values[pssEach] = float64(after.PSS-before.PSS) / n
		values[rssEachConn] = float64(after.RSS-before.RSS) / n
		values[fdsEachConn] = float64(after.FDs-before.FDs) / n
	}
	return values, h.release()
}

// settledMemory is what the proxy and the kernel hold once neither frees anything any more.
func settledMemory(rt route) (Usage, int64, error) {
	slab, err := settledSlab()
	if err != nil {
		return Usage{}, 0, err
	}
	usage, err := usageOf(rt.proxy)
	if err != nil {
		return usage, slab, err
	}
	usage.PSS, err = proportionalOf(rt.proxy)
	return usage, slab, err
}

// measureBeside measures requests without and with idle connections on the same proxy.
func measureBeside(l *lab, rt route) (map[string]float64, error) {
	ld := httpLoad{connections: 32}
	values, err := requestsOf(ld.connections)(l, rt)
	if err != nil {
		return nil, err
	}
	h, err := l.hold(*besides, rt.addr)
	if err != nil {
		return nil, err
	}
	values[held] = float64(h.Held)
	if h.Held < *besides { // it is at its limit, and would refuse the load too
		return values, h.release()
	}
	with, err := quietly(*tries, func() (map[string]float64, error) { return measureRequests(l, rt, ld) })
	if err != nil {
		return nil, err
	}
	values[besideP99], values[besideCPU] = with[p99], with[cpuRequest]
	return values, h.release()
}

const oneService = "1-service"

// servicePaths are usher alone and with many Services that nobody asks.
func servicePaths() []path {
	return []path{
		{name: oneService, start: startUsher},
		{name: fmt.Sprintf("%d-services", *services), start: startUsherCrowded},
	}
}

// startUsherCrowded starts it with many more Services, each with endpoints of its own slice.
func startUsherCrowded(l *lab) route {
	var all strings.Builder
	all.WriteString(l.manifest("servers", l.proto.service.Addr()))
	var last netip.Addr
	for i := range *services {
		last = netip.AddrFrom4([4]byte{10, 96, byte(1 + i/250), byte(1 + i%250)})
		all.WriteString(l.manifest(fmt.Sprintf("crowd-%d", i), last))
	}
	rt := startUsherWith(l, all.String())
	rt.last = netip.AddrPortFrom(last, l.proto.service.Port())
	rt.patience = 2 * time.Minute
	return rt
}

// measureServices measures requests and then connections.
func measureServices(l *lab, rt route) (map[string]float64, error) {
	values, err := requestsOf(32)(l, rt)
	if err != nil {
		return nil, err
	}
	connections, err := measureConnections(l, rt)
	for _, name := range []string{connectionRate, newP99, cpuConnection} {
		values[name] = connections[name]
	}
	return values, err
}
