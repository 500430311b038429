package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many goroutines at once, on real time: never too many are in, and nobody is
// forgotten.
func TestACrowd(t *testing.T) {
	whole := NewWhole(func() Room { return Room{6, 1000} })
	limits := []Limits{
		{Connections: 4, PerClient: 2, PerEndpoint: 2, Wait: time.Minute},
		{Connections: 3, Rate: Rate{PerSecond: 20_000, Burst: 5}, Wait: time.Minute},
		{Wait: time.Minute},
		{},
	}
	gave := errors.New("given up")
	var all sync.WaitGroup
	var total atomic.Int64
	for i, l := range limits {
		g := NewGate(l, whole)
		var in atomic.Int64
		for worker := range 8 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), uint64(worker)))
				for range 2000 {
					if r.IntN(50) == 0 {
						g.Set(l)
						whole.Changed()
					}
					ctx, cancel := context.WithCancelCause(t.Context())
					if r.IntN(10) == 0 {
						time.AfterFunc(time.Duration(r.IntN(100))*time.Microsecond, func() { cancel(gave) })
					}
					v, err := g.Enter(ctx, addr(worker/4))
					var exceeded *Exceeded
					switch {
					case err == nil:
						if n := in.Add(1); l.Connections > 0 && n > int64(l.Connections) {
							t.Errorf("%d are in at gate %d", n, i)
						}
						if n := total.Add(1); n > 6 {
							t.Errorf("%d are in", n)
						}
						seekEndpoint(t, ctx, g, &v)
						total.Add(-1)
						in.Add(-1)
						v.Leave()
					case err == gave:
					case errors.As(err, &exceeded) && (exceeded.Limit == Process && l.Wait == 0 || exceeded.Limit == PerClient):
					default:
						t.Errorf("gate %d: %v", i, err)
					}
					cancel(nil)
				}
			})
		}
		defer func() {
			if g.Len() != 0 || g.Waiting() != 0 || g.clients != nil || g.queue.Len() != 0 || g.endpoints.n != nil {
				t.Errorf("left at gate %d: %d, %d, %v, %d, %v", i, g.Len(), g.Waiting(), g.clients, g.queue.Len(), g.endpoints.n)
			}
		}()
	}
	all.Wait()
	if whole.Len() != 0 || whole.Waiting() != 0 {
		t.Errorf("%d are in, %d wait", whole.Len(), whole.Waiting())
	}
}

func seekEndpoint(t *testing.T, ctx context.Context, g *Gate, v *Visit) {
	leave, ok := g.Endpoint(endpoint(1))
	if !ok {
		var err error
		if _, leave, err = v.WaitEndpoint(ctx, []netip.AddrPort{endpoint(1)}); err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
	}
	leave()
}
