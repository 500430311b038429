package proxier

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/limit"
)

// crowd are very many TCP Services with five endpoints each, on loopback addresses.
type crowd struct {
	proxier *Proxier
	scrape  prometheus.Gatherer
	node    *nodeState
	ports   []*Port
}

func newCrowd(tb testing.TB, n int) *crowd {
	registry := prometheus.NewRegistry()
	s := newScene(tb, func(c *Config) { c.OnRecord, c.Registry = nil, registry })
	s.stop() // nothing but the crowd uses it
	s.proxier.data.pollers = anyPollers
	c := &crowd{proxier: s.proxier, scrape: registry, node: &nodeState{clients: &clients{}}}
	for i := range n {
		c.ports = append(c.ports, crowdPort(i))
	}
	return c
}

// crowdPort is the i-th of them. Its address is of a network that no other test uses.
func crowdPort(i int) *Port {
	pid := os.Getpid()
	vip := netip.AddrFrom4([4]byte{127, byte(200 + pid%50), byte(i >> 8), byte(i)})
	p := &Port{
		Key:       Key{ServicePort{fmt.Sprintf("namespace-%d", i%50), fmt.Sprintf("service-%d", i), "http", tcpProtocol}, IPv4},
		Frontends: []Frontend{{Kind: ClusterIP, Addr: vip, Port: 8080, Policy: Cluster}},
		Settings:  new(annotation.Defaults()),
	}
	for e := range 5 {
		p.Cluster.Endpoints = append(p.Cluster.Endpoints, balancer.Endpoint{
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(e + 1)}), 8080),
			Pod:  "namespace/pod", Node: "node",
		})
	}
	return p
}

// open opens a listener for each Port, that serves.
func (c *crowd) open(tb testing.TB) (list []*listener) {
	for _, port := range c.ports {
		l := newListener(c.proxier.data, port.Key, c.proxier.sharedPort(port))
		s, err := l.open(netip.AddrPortFrom(port.Frontends[0].Addr, port.Frontends[0].Port))
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := l.update(port, []*socket{s}, c.node, time.Now()); err != nil {
			tb.Fatal(err)
		}
		l.applied()
		list = append(list, l)
	}
	return list
}

// footprint is what the process holds.
type footprint struct {
	heap, stack uint64
	resident    int // kB
	cpu         time.Duration
}

func measureFootprint() footprint {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	h := footprint{heap: m.HeapAlloc, stack: m.StackInuse, cpu: spent()}
	text, _ := os.ReadFile("/proc/self/status")
	_, text2, _ := strings.Cut(string(text), "VmRSS:")
	fmt.Sscan(text2, &h.resident)
	return h
}

// spent is the CPU time of this process, its system calls included.
func spent() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What 10,000 listeners take: to be opened, while they are idle, in a pass that
// changes none or one of them, in a scrape of the metrics, and to be closed.
func BenchmarkListeners(b *testing.B) {
	n := min(10000, (limit.Files()-limit.Reserve)/limit.FilesPerListener)
	for b.Loop() {
		c := newCrowd(b, n)
		before := measureFootprint()
		start := spent()
		list := c.open(b)
		each(b, "open", start, n)
		after := measureFootprint()
		b.ReportMetric(float64(after.heap-before.heap)/float64(n), "heap-B/listener")
		b.ReportMetric(float64(int64(after.stack)-int64(before.stack))/float64(n), "stack-B/listener")
		b.ReportMetric(float64(after.resident-before.resident)*1024/float64(n), "resident-B/listener")

		start = spent()
		for i, l := range list {
			l.update(c.ports[i], l.sockets, c.node, time.Now())
		}
		each(b, "unchanged", start, n)

		for i, l := range list {
			now := *c.ports[i]
			now.Cluster.Endpoints = now.Cluster.Endpoints[1:]
			c.ports[i] = &now
			_ = l
		}
		start = spent()
		for i, l := range list {
			l.update(c.ports[i], l.sockets, c.node, time.Now())
		}
		each(b, "changed", start, n)

		start = spent()
		families, err := c.scrape.Gather()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64((spent() - start).Milliseconds()), "ms/scrape")
		series := 0
		for _, f := range families {
			series += len(f.Metric)
		}
		b.ReportMetric(float64(series)/float64(n), "series/listener")

		start = spent()
		for _, l := range list {
			l.close()
			l.retire()
			c.proxier.forgetShared(l.key)
		}
		each(b, "close", start, n)
	}
}

func each(b *testing.B, what string, since time.Duration, n int) {
	b.ReportMetric(float64((spent()-since).Nanoseconds())/1000/float64(n), "µs/"+what)
}
