package proxier

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/proxier/source"
)

// cluster has n Services, each with a slice of 5 endpoints.
func cluster(n int) (objects source.Objects) {
	for i := range n {
		objects.Services = append(objects.Services, clusterService(i))
		objects.Slices = append(objects.Slices, clusterSlice(i))
	}
	return objects
}

func clusterService(i int) *corev1.Service {
	s := service(fmt.Sprintf("service-%05d", i), fmt.Sprintf("10.%d.%d.%d:80", 96+i>>16, i>>8&255, i&255))
	s.CreationTimestamp, s.ResourceVersion = metav1.NewTime(time.Unix(int64(i), 0)), "1"
	s.Spec.Ports[0].Name = "http"
	return s
}

func clusterSlice(i int) *discoveryv1.EndpointSlice {
	var addrs []netip.AddrPort
	for e := range 5 {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, byte(16 + e), byte(i >> 8), byte(i)}), 8080))
	}
	s := slice(fmt.Sprintf("service-%05d", i), addrs...)
	name := "http"
	s.ResourceVersion, s.Ports[0].Name = "1", &name
	for e := range s.Endpoints {
		node := fmt.Sprintf("node-%d", e)
		s.Endpoints[e].NodeName = &node
		s.Endpoints[e].TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("%s-%d", s.Name, e)}
	}
	return s
}

// changed is another version of a slice, in which an endpoint is not ready that was,
// or the other way round.
func changed(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s = s.DeepCopy()
	s.ResourceVersion += "'"
	ready := !isTrue(s.Endpoints[0].Conditions.Ready, true)
	s.Endpoints[0].Conditions.Ready = &ready
	return s
}

// paper is a capture that the kernel knows nothing of, and that costs nothing.
type paper struct{ *bind }

func (paper) sockets(*Port, []*socket, opener, *nodeState) ([]*socket, []error) { return nil, nil }
func (paper) answer(*Port, *socket, *nodeState) answer                          { return refusing }
func (paper) apply(context.Context, []*listener, *nodeState, bool) map[Family]error {
	return nil
}
func (paper) changed() bool                { return false }
func (paper) stop(context.Context) error   { return nil }
func (paper) remove(context.Context) error { return nil }

// onPaper is a Proxier whose passes the benchmark makes.
func onPaper(tb testing.TB, objects source.Objects) (*Proxier, *memory) {
	s := newSceneWith(tb, func(p *Proxier) { p.data.capture = paper{} }, func(c *Config) {
		c.OnRecord = nil
		c.Registry = prometheus.NewRegistry()
	})
	s.stop()
	s.memory.objects = objects
	s.proxier.data.prober.Close()
	return s.proxier, s.memory
}

// What is held of a Service in the desired state, beside the objects.
func BenchmarkHeldPlan(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 10000
	objects := cluster(n)
	for b.Loop() {
		m, before := newPlanner(), heap()
		m.desire(objects, testFacts)
		b.ReportMetric(float64(heap()-before)/n, "B/Service")
		runtime.KeepAlive(m)
	}
	runtime.KeepAlive(objects)
}

// The desired state alone, of 10,000 Services that are all new.
func BenchmarkDesire(b *testing.B) {
	objects := cluster(10000)
	b.ReportAllocs()
	for b.Loop() {
		desire(objects, testFacts)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A pass at 10,000 Services with 50,000 endpoints, without the kernel. cpu-ms/op is
// the CPU time of the whole process, garbage collection included.
func BenchmarkPass(b *testing.B) {
	const n = 10000
	ctx := context.Background()
	passes := func(b *testing.B, p *Proxier, before func()) {
		b.ReportAllocs()
		cpu := cpuTime()
		b.ResetTimer()
		for b.Loop() {
			before()
			p.reconcile(ctx, false)
		}
		b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		var cpu time.Duration
		for b.Loop() {
			b.StopTimer()
			p, _ := onPaper(b, cluster(n))
			before := cpuTime()
			b.StartTimer()
			p.reconcile(ctx, false)
			cpu += cpuTime() - before
		}
		b.ReportMetric(float64(cpu.Microseconds())/1000/float64(b.N), "cpu-ms/op")
	})
	p, m := onPaper(b, cluster(n))
	p.reconcile(ctx, false)
	b.Run("none", func(b *testing.B) { passes(b, p, func() {}) })
	b.Run("listed", func(b *testing.B) { // nothing has changed, but the lists are new
		passes(b, p, func() {
			m.objects.Services, m.objects.Slices = slices.Clone(m.objects.Services), slices.Clone(m.objects.Slices)
		})
	})
	b.Run("endpoint", func(b *testing.B) {
		i := 0
		passes(b, p, func() {
			i = (i + 7919) % n
			m.objects.Slices = slices.Clone(m.objects.Slices)
			m.objects.Slices[i] = changed(m.objects.Slices[i])
		})
	})
	b.Run("service", func(b *testing.B) { // one comes, the next time it goes
		passes(b, p, func() {
			if len(m.objects.Services) == n {
				m.objects.Services = append(slices.Clone(m.objects.Services), clusterService(n))
			} else {
				m.objects.Services = slices.Clone(m.objects.Services[:n])
			}
		})
	})
}
