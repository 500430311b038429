package balancertest

import (
	"errors"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

const (
	workers = 8
	rounds  = 200
)

// checkDone ends connections in other goroutines, with every outcome, also
// after their Picker was replaced, and then picks again.
func checkDone(newPolicy func() balancer.Policy) error {
	p := newPolicy()
	old := Endpoints(10)
	oldPicker := p.Picker(old)
	var picks []balancer.Pick
	for i := range 1000 {
		pick, err := pickFrom(oldPicker, old, balancer.Request{Client: client(i)})
		if err != nil {
			return err
		}
		picks = append(picks, pick)
	}
	set := endpointsFrom(5, 10) // half of them went
	picker := p.Picker(set)

	var wg sync.WaitGroup
	for chunk := range slices.Chunk(picks, len(picks)/workers) {
		wg.Go(func() {
			for i, pick := range chunk {
				finish(pick, []balancer.Outcome{connected, refused, {}}[i%3])
			}
		})
	}
	err := exhaust(picker, set, client(1)) // meanwhile
	wg.Wait()
	if err != nil {
		return err
	}
	return exhaust(picker, set, client(1))
}

// checkAnswered lets every other connection get an answer, some at once and some
// in another goroutine after their Picker was replaced, after times of any
// length.
func checkAnswered(newPolicy func() balancer.Policy) error {
	p := newPolicy()
	old := Endpoints(10)
	oldPicker := p.Picker(old)
	times := []time.Duration{0, -time.Second, 1, time.Millisecond, time.Minute, math.MaxInt64, math.MinInt64}
	var late []balancer.Pick
	for i := range 1000 {
		pick, err := pickFrom(oldPicker, old, balancer.Request{Client: client(i)})
		switch {
		case err != nil:
			return err
		case i%3 == 0:
			late = append(late, pick)
			continue
		case i%3 == 1 && pick.Answered != nil:
			pick.Answered(times[i%len(times)])
		}
		finish(pick, connected)
	}
	set := endpointsFrom(5, 10) // half of them went
	picker := p.Picker(set)

	var wg sync.WaitGroup
	for chunk := range slices.Chunk(late, len(late)/workers) {
		wg.Go(func() {
			for i, pick := range chunk {
				if pick.Answered != nil {
					pick.Answered(times[i%len(times)])
				}
				finish(pick, []balancer.Outcome{connected, refused, {}}[i%3])
			}
		})
	}
	err := exhaust(picker, set, client(1)) // meanwhile
	wg.Wait()
	if err != nil {
		return err
	}
	return exhaust(picker, set, client(1))
}

// snapshot is a Picker and what it may pick.
type snapshot struct {
	picker balancer.Picker
	set    []balancer.Endpoint
}

// checkConcurrent lets connections come, fail and retry while the endpoints
// change under them.
func checkConcurrent(newPolicy func() balancer.Policy) error {
	p := newPolicy()
	var current atomic.Pointer[snapshot]
	change := func(i int) {
		set := endpointsFrom(i%100, 1+i%5)
		current.Store(&snapshot{p.Picker(set), set})
	}
	change(0)

	errs := make(chan error, workers)
	for w := range workers {
		go func() { errs <- connectOften(&current, client(w)) }()
	}
	var all []error
	for i := 1; len(all) < workers; i++ {
		select {
		case err := <-errs:
			all = append(all, err)
		default:
			change(i)
			runtime.Gosched()
		}
	}
	return errors.Join(all...)
}

// connectOften gives way after it took the snapshot, so that it is an old one.
func connectOften(current *atomic.Pointer[snapshot], from netip.Addr) error {
	for range rounds {
		s := current.Load()
		runtime.Gosched()
		if err := exhaust(s.picker, s.set, from); err != nil {
			return err
		}
	}
	return nil
}
