package observe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-proxy/usher/balancer"
)

// ended is a record with a number that has ended.
func ended(number uint64) *Record {
	r := &Record{number: number, ServicePort: &ServicePort{"shop", "cart", "http", "tcp"}, Start: time.Now()}
	r.End()
	r.Reason = OK
	return r
}

// filled is a ring to which n records have been added, numbered from 0.
func filled(size, n int) *Ring {
	ring := NewRing(size)
	for i := range n {
		ring.add(ended(uint64(i)))
	}
	return ring
}

func numbers(list []*Record) (all []uint64) {
	for _, r := range list {
		all = append(all, r.number)
	}
	return all
}

func TestRingHoldsTheNewest(t *testing.T) {
	for _, c := range []struct{ size, added, held int }{
		{10, 0, 0}, {10, 3, 3}, {10, 10, 10}, {10, 11, 10}, {1, 5, 1}, {0, 5, 1},
		{chunk, 2*chunk + 1, chunk}, {3 * chunk, 2*chunk + 7, 2*chunk + 7}, {3*chunk + 5, 10 * chunk, 3*chunk + 5},
	} {
		got := numbers(slices.Collect(filled(c.size, c.added).Newest(Filter{})))
		var want []uint64
		for i := range c.held {
			want = append(want, uint64(c.added-1-i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("of %d records a ring of %d has %v, want %v", c.added, c.size, got, want)
		}
	}
}

// Who reads while others add never sees a record twice, nor an older one after a newer.
func TestReadingWhileOthersAdd(t *testing.T) {
	ring := filled(500, 500)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20000 {
				ring.add(ended(0))
			}
		})
	}
	for range 200 {
		seen := map[*Record]bool{}
		for r := range ring.Newest(Filter{}) {
			if seen[r] {
				t.Fatal("a record was read twice")
			}
			seen[r] = true
		}
		if len(seen) > ring.Size() {
			t.Fatalf("%d records in a ring of %d", len(seen), ring.Size())
		}
	}
	all.Wait()
}

// A follower gets what it asked for of the past, and everything that comes, in order.
func TestFollower(t *testing.T) {
	ring := filled(1000, 300)
	for last, want := range map[int]int{0: 0, 1: 1, 200: 200, 300: 300, 5000: 300} {
		follower := ring.Follow(Filter{}, last)
		var got []uint64
		for len(got) < want {
			some, lost, err := follower.Next(t.Context())
			if err != nil || lost > 0 {
				t.Fatal(lost, err)
			}
			got = append(got, numbers(some)...)
		}
		if len(got) != want || want > 0 && (got[0] != uint64(300-want) || got[want-1] != 299 || !slices.IsSorted(got)) {
			t.Errorf("the last %d are %v", last, got)
		}
	}

	follower := ring.Follow(Filter{}, 0)
	go func() {
		for i := range 500 {
			ring.add(ended(uint64(1000 + i)))
		}
	}()
	for want := uint64(1000); want < 1500; {
		some, lost, err := follower.Next(t.Context())
		if err != nil || lost > 0 {
			t.Fatal(lost, err)
		}
		for _, r := range some {
			if r.number != want {
				t.Fatalf("record %d, want %d", r.number, want)
			}
			want++
		}
	}
}

// A follower that has not read for long is told how many records it has lost, and goes on
// with the oldest that is there. Another one loses nothing by that.
func TestSlowFollower(t *testing.T) {
	ring := NewRing(100)
	slow, quick := ring.Follow(Filter{}, 0), ring.Follow(Filter{}, 0)
	for i := range 350 {
		ring.add(ended(uint64(i)))
		if i%50 == 0 {
			if _, lost, err := quick.Next(t.Context()); lost > 0 || err != nil {
				t.Errorf("the quick one has lost %d (%v)", lost, err)
			}
		}
	}
	some, lost, err := slow.Next(t.Context())
	if err != nil || lost != 250 || len(some) != 100 || some[0].number != 250 {
		t.Errorf("lost %d, then %d records (%v)", lost, len(some), err)
	}
	if ring.Lost() != 250 {
		t.Errorf("the ring counts %d", ring.Lost())
	}
}

// What was lost is told even if nothing of the rest is wanted.
func TestSlowFollowerOfOthers(t *testing.T) {
	ring := NewRing(10)
	follower := ring.Follow(Filter{Namespace: "other"}, 0)
	for range 30 {
		ring.add(ended(0))
	}
	if some, lost, err := follower.Next(t.Context()); len(some) != 0 || lost != 20 || err != nil {
		t.Errorf("%d records, lost %d, %v", len(some), lost, err)
	}
}

// A follower waits without looking again and again, wakes for what it wants, and ends
// with its context.
func TestFollowerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := NewRing(10)
		follower := ring.Follow(Filter{Errors: true}, 0)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan []*Record, 1)
		var err error
		go func() {
			defer close(got)
			for err == nil {
				var some []*Record
				if some, _, err = follower.Next(ctx); err == nil {
					got <- slices.Clone(some)
				}
			}
		}()
		began := time.Now()
		time.Sleep(time.Hour)
		ring.add(ended(1)) // not wanted
		synctest.Wait()
		time.Sleep(time.Hour)
		bad := ended(2)
		bad.Reason = ClientReset
		ring.add(bad)
		if some := <-got; len(some) != 1 || some[0] != bad {
			t.Errorf("%v", numbers(some))
		}
		if waited := time.Since(began) - 2*time.Hour; waited > followPause {
			t.Errorf("it was told after %s", waited)
		}
		cancel()
		for range got {
			t.Error("told something more")
		}
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestFilter(t *testing.T) {
	r := ended(1)
	r.Start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	r.Duration = time.Minute
	r.Client = netip.MustParseAddrPort("[::ffff:10.0.0.9]:5000")
	r.Reason = BackendReset
	r.Attempts = []Attempt{{Pod: "shop/cart-1", Result: BackendRefused}, {Pod: "shop/cart-2", Result: OK}}
	r.SetBackend(balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.2:80"), Pod: "shop/cart-2"})
	now := time.Date(2026, 1, 2, 3, 2, 0, 0, time.UTC)
	for query, want := range map[string]bool{
		"":               true,
		"namespace=shop": true, "namespace=sho": false,
		"service=cart": true, "service=shop/cart": true, "service=other/cart": false, "service=carts": false,
		"namespace=shop&service=shop/cart": true,
		"pod=shop/cart-2":                  true, "pod=cart-1": true, "pod=cart-3": false, "pod=other/cart-2": false, "pod=shop": false,
		"client=10.0.0.9": true, "client=10.0.0.0/24": true, "client=10.0.1.0/24": false, "client=::/0": false,
		"reason=backend_reset": true, "reason=ok,backend_reset": true, "reason=ok&reason=backend_reset": true, "reason=ok": false,
		"side=backend": true, "side=client": false,
		"errors=true": true, "errors=false": true,
		"since=61s": true, "since=1m": true, "since=59s": false, "since=2026-01-02T03:01:00Z": true, "since=2026-01-02T03:01:01Z": false,
		"service=cart&reason=ok": false, "follow=1": true,
	} {
		q, _ := url.ParseQuery(query)
		f, err := ParseFilter(q, now)
		if err != nil || f.Wants(r) != want {
			t.Errorf("%s: %v, want %v (%v)", query, !want, want, err)
		}
	}
	if f, _ := ParseFilter(url.Values{"errors": {"1"}}, now); f.Wants(ended(2)) {
		t.Error("what went well is no error")
	}
	session := ended(2) // has no attempts
	if f := (Filter{Pod: "cart-1"}); f.Wants(session) {
		t.Error("no endpoint is not this pod")
	}
	session.SetBackend(balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:53"), Pod: "shop/cart-1"})
	if f := (Filter{Pod: "cart-1"}); !f.Wants(session) {
		t.Error("the endpoint of a session is its pod")
	}
}

func TestFilterThatCannotBeMeant(t *testing.T) {
	for query, names := range map[string]string{
		"service=/cart": "NAMESPACE/NAME", "service=shop/": "NAMESPACE/NAME", "namespace=a&service=b/c": "service=",
		"client=10.0.0": "CIDR", "reason=okay": "backend_refused", "reason=ok&reason=": "reason=", "side=left": "client, backend",
		"errors=maybe": "true or false", "since=-1m": "duration", "since=yesterday": "RFC 3339",
	} {
		q, _ := url.ParseQuery(query)
		if _, err := ParseFilter(q, time.Now()); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %v, want an error with %s", query, err, names)
		}
	}
}

func TestAddingToRingAllocatesNothing(t *testing.T) {
	ring, r := NewRing(100), ended(1)
	ring.Follow(Filter{}, 0)
	if n := testing.AllocsPerRun(1000, func() { ring.add(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRing adds records while so many follow, each with a filter of its own; CPU
// time is what it costs with what the followers do.
func BenchmarkRing(b *testing.B) {
	for _, followers := range []int{0, 1, 5} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) {
			ring, r := NewRing(DefaultRingSize), ended(1)
			ctx, cancel := context.WithCancel(b.Context())
			var all sync.WaitGroup
			for i := range followers {
				f := ring.Follow(Filter{Namespace: "shop", Service: "other" + fmt.Sprint(i)}, 0)
				all.Go(func() {
					for ctx.Err() == nil {
						f.Next(ctx)
					}
				})
			}
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					ring.add(r)
				}
			})
			b.StopTimer()
			cancel()
			all.Wait()
		})
	}
}

// BenchmarkClosed is all that becomes of a record in the data path.
func BenchmarkClosed(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("ring=%t", with), func(b *testing.B) {
			var ring *Ring
			if with {
				ring = NewRing(DefaultRingSize)
			}
			log := NewLog(nil)
			m := NewMetrics(prometheus.NewRegistry(), log, ring)
			o, port := New("node-a", log, m, ring, nil), m.Port("shop", "cart", "", "tcp")
			b.ReportAllocs()
			for b.Loop() {
				r := o.Open(port)
				r.End()
				r.Reason = OK
				o.Closed(port, r)
			}
		})
	}
}

// BenchmarkRingMemory is what a full ring takes.
func BenchmarkRingMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		ring := NewRing(DefaultRingSize)
		m := NewMetrics(prometheus.NewRegistry(), NewLog(nil), nil)
		o, port := New("node-a", NewLog(nil), m, ring, nil), m.Port("shop", "cart", "", "tcp")
		for range DefaultRingSize {
			r := o.Open(port)
			r.Attempts = make([]Attempt, 1)
			r.End()
			ring.add(r)
		}
		b.ReportMetric(float64(heap()-before)/DefaultRingSize, "B/record")
		runtime.KeepAlive(ring)
	}
}

func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
