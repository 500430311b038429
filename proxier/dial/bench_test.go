package dial

import (
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// only is the one endpoint there is.
type only netip.AddrPort

func (o only) Pick(balancer.Request) (balancer.Pick, error) {
	return balancer.Pick{Endpoint: balancer.Endpoint{Addr: netip.AddrPort(o)}}, nil
}

// BenchmarkDial compares what connecting takes alone with a search, and with one
// that would hedge.
func BenchmarkDial(b *testing.B) {
	endpoint := newBackend(b)
	d, poller := New(0), poller(b)
	defer d.Close()
	b.Run("connect", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			conn, err := d.dial(b.Context(), tcp.Target{Addr: endpoint.addr, Poller: poller}, time.Now().Add(time.Second))
			must(b, err)
			conn.Reset()
		}
	})
	for name, hedge := range map[string]time.Duration{"search": 0, "search that hedges": 50 * time.Millisecond} {
		c := Call{Start: time.Now(), Poller: poller, Retry: Retry{Attempts: 4, Timeout: time.Second, Total: patience, On: Connect, Hedge: hedge},
			Picker: func() balancer.Picker { return only(endpoint.addr) }, Budget: NewTokens(Budget{Share: 0.2, PerSecond: 10})}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := d.Dial(b.Context(), c)
				must(b, err)
				r.Conn.Reset()
			}
		})
	}
}

func BenchmarkTokens(b *testing.B) {
	t := NewTokens(Budget{Share: 0.2, PerSecond: 10})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			t.deposit()
		}
	})
}
