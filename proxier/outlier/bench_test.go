package outlier

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// benchmarked is a Detector of n endpoints, some of them out.
func benchmarked(tb testing.TB, n, out int) (*Detector, balancer.Picker, []netip.AddrPort) {
	never := func(ctx context.Context, _ string, _ netip.AddrPort) (net.Conn, error) { return nil, ctx.Err() }
	p := NewProber(never)
	tb.Cleanup(p.Close)
	s := passive
	s.Passive.Base, s.Passive.Max = time.Hour, time.Hour
	d := New(p, "tcp", s, nil)
	tb.Cleanup(d.Close)
	policy, err := balancer.New("round-robin")
	if err != nil {
		tb.Fatal(err)
	}
	members := upTo(n)
	endpoints := make([]balancer.Endpoint, n)
	for i, m := range members {
		endpoints[i].Addr = m
	}
	picker := d.Picker("cluster", policy.Picker, endpoints)
	for range 3 {
		for _, m := range members[:out] {
			d.Report(m, refused)
		}
	}
	return d, picker, members
}

func BenchmarkPick(b *testing.B) {
	for _, out := range []int{0, 5} {
		b.Run(fmt.Sprintf("%d out", out), func(b *testing.B) {
			_, picker, _ := benchmarked(b, 20, out)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := picker.Pick(balancer.Request{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func BenchmarkReport(b *testing.B) {
	for _, err := range []error{nil, refused} {
		b.Run(fmt.Sprint(err), func(b *testing.B) {
			d, _, members := benchmarked(b, 20, 0)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					d.Report(members[i%len(members)], err)
				}
			})
		})
	}
}

func BenchmarkOut(b *testing.B) {
	d, _, members := benchmarked(b, 20, 5)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			d.Out("cluster", members[i%len(members)])
		}
	})
}

// One endpoint of many goes out and comes back.
func BenchmarkEjection(b *testing.B) {
	for _, n := range []int{20, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, _, members := benchmarked(b, n, n/10)
			for i := 0; b.Loop(); i++ {
				m := members[n/2]
				for range 3 {
					d.Report(m, refused)
				}
				d.Report(m, nil)
			}
		})
	}
}

func TestTheGoodPathAllocatesNothing(t *testing.T) {
	d, picker, members := benchmarked(t, 20, 5)
	if n := testing.AllocsPerRun(100, func() {
		picker.Pick(balancer.Request{})
		d.Report(members[10], nil)
		d.Out("cluster", members[0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
