package balancertest

import (
	"fmt"
	"net/netip"
	"runtime"

	"github.com/usher-proxy/usher/balancer"
)

const (
	churnSet     = 200 // endpoints at a time
	churnWarm    = 60  // changes, all endpoints of which are new
	churnChanges = 80
	// churnBytes is how much the heap may grow by all that come and go after the
	// warming up: far less than an address for each of them.
	churnBytes = churnSet * churnChanges * 32
)

// checkBounded changes all endpoints again and again, and leaves connections
// open on each. It measures three times if it has to: the heap is that of the
// whole process.
func checkBounded(newPolicy func() balancer.Policy) error {
	var grown int64
	for range 3 {
		p := newPolicy()
		if err := churn(p, 0, churnWarm); err != nil {
			return err
		}
		before := heap()
		if err := churn(p, churnWarm, churnChanges); err != nil {
			return err
		}
		grown = heap() - before
		runtime.KeepAlive(p)
		if grown < churnBytes {
			return nil
		}
	}
	return fmt.Errorf("%d endpoints that came and went took %d KiB for ever: what is remembered of endpoints needs a bound",
		churnSet*churnChanges, grown>>10)
}

func churn(p balancer.Policy, from, changes int) error {
	for i := from; i < from+changes; i++ {
		set := endpointsFrom(i*churnSet, churnSet)
		picker := p.Picker(set)
		for j := range churnSet {
			pick, err := picker.Pick(balancer.Request{Client: client(j), Tried: []netip.AddrPort{set[0].Addr}})
			if err != nil {
				return err
			}
			if j%2 == 0 {
				finish(pick, connected)
			}
		}
	}
	return nil
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held back
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
