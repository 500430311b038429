package limit

import (
	"context"
	"testing"
	"time"
)

var all = Limits{Connections: 1 << 20, PerClient: 1 << 20, PerEndpoint: 1 << 20, Rate: Rate{PerSecond: 1e9, Burst: 1e6}, Wait: time.Second}

// visit is what limits cost one connection.
func visit(b *testing.B, g *Gate, client int) {
	v, err := g.Enter(b.Context(), addr(client))
	if err != nil {
		b.Error(err)
	}
	leave, ok := g.Endpoint(endpoint(1))
	if !ok {
		b.Error("the endpoint is full")
	}
	leave()
	v.Leave()
}

func BenchmarkVisit(b *testing.B) {
	for _, c := range []struct {
		name   string
		limits Limits
	}{{"no limits", Limits{}}, {"all limits", all}} {
		b.Run(c.name, func(b *testing.B) {
			g := NewGate(c.limits, NewWhole(plenty))
			if c.limits == all { // as in a Service that is in use
				for i := range 1000 {
					g.Enter(b.Context(), addr(i))
					g.Endpoint(endpoint(i))
				}
			}
			b.Run("alone", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					visit(b, g, 1)
				}
			})
			b.Run("contended", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						visit(b, g, i%1000)
					}
				})
			})
		})
	}
}

// BenchmarkTurn is what it costs to wait for a turn, with as many in the queue as may.
func BenchmarkTurn(b *testing.B) {
	for _, c := range []struct {
		name  string
		crowd int // of other clients at their own limits
	}{{"short queue", 0}, {"crowd", 990}} {
		b.Run(c.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			g := NewGate(Limits{Connections: 1000, PerClient: 1, Wait: time.Hour}, NewWhole(plenty))
			for i := range c.crowd {
				for range 2 {
					go g.Enter(ctx, addr(i))
				}
			}
			for g.Waiting() < c.crowd {
				time.Sleep(time.Millisecond)
			}
			b.ReportAllocs()
			b.SetParallelism(2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if v, err := g.Enter(ctx, addr(5000)); err == nil {
						v.Leave()
					}
				}
			})
		})
	}
}

func TestNoLimitsCostNoAllocation(t *testing.T) {
	g := NewGate(Limits{}, NewWhole(plenty))
	if n := testing.AllocsPerRun(1000, func() {
		v, _ := g.Enter(context.Background(), addr(1))
		leave, _ := g.Endpoint(endpoint(1))
		leave()
		v.Leave()
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
}
