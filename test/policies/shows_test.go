package policies

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

func BenchmarkPolicies(b *testing.B) {
	t := newTable("policies", fmt.Sprintf("20 endpoints, %d clients in turns, %s for each policy", *clients, *runFor),
		"policy", "good-%", "slow-%", "flapping-%", "refusing-%", "connect-p50-ms", "connect-p99-ms", "first-byte-p50-ms", "first-byte-p99-ms",
		"connections", "failed", "refused", "flap-refused", "stops-ms", "ejected-ms", "again-ms", "back-%")
	show := func(name string, p plan) {
		p.clients, p.lasts, p.repair, p.flap = *clients, *runFor, *runFor/2, 1500*time.Millisecond
		s := p.tell(b)
		cells := append([]string{name}, s.spread(p)...)
		if p.bad {
			cells = append(cells, s.badness(p)...)
		}
		t.add(cells...)
		tellSome(name, s.failures)
	}
	show("no bad endpoint", plan{policy: balancer.Names()[0]})
	for _, name := range balancer.Names() {
		show(name, plan{policy: name, bad: true})
	}
	t.publish(b)
}

// tellSome prints why connections failed, if any did.
func tellSome(of string, failures []error) {
	for _, err := range failures[:min(len(failures), 3)] {
		fmt.Printf("%s: failed: %v\n", of, err)
	}
}

// spread are the cells of any story.
func (s *story) spread(p plan) (cells []string) {
	good, whole := 1.0, 0.0
	for _, addr := range []netip.AddrPort{slow, flapping, refusing} {
		var part float64
		part, whole = s.share(addr, s.start)
		good -= part / whole
		cells = append(cells, percent(part, whole))
	}
	connects, _ := s.connects(time.Now())
	return append(append([]string{percent(good, of-3)}, cells...),
		percentile(connects, 50), percentile(connects, 99), percentile(s.firstBytes, 50), percentile(s.firstBytes, 99),
		strconv.Itoa(len(s.records)), strconv.Itoa(len(s.failures)))
}

// badness are the cells of a story with bad endpoints.
func (s *story) badness(p plan) []string {
	repair := s.start.Add(p.repair)
	ejected, again, back := "no", "not in "+(p.lasts-p.repair).String(), "-"
	if at, ok := s.ejection[refusing.String()]; ok {
		ejected = ms(at.Sub(s.start))
	}
	if first := s.firstAfter(refusing, repair); !first.IsZero() {
		again = ms(first.Sub(repair))
		back = percent(s.share(refusing, first))
	}
	return []string{
		strconv.Itoa(s.refused(refusing)), strconv.Itoa(s.refused(flapping)),
		ms(s.lastBefore(refusing, repair).Sub(s.start)), ejected, again, back,
	}
}

func BenchmarkBlackhole(b *testing.B) {
	t := newTable("blackhole", fmt.Sprintf("4 endpoints, one of them silent, %d new clients a second for %s, connect-timeout 1s", *perSec, *runFor/2),
		"passive health", "hedge", "connect-p50-ms", "connect-p99-ms", "attempts", "ejected-ms",
		"then-p50-ms", "then-p99-ms", "connections", "failed", "no-budget")
	for _, failures := range []int{0, 5} {
		for _, hedge := range []time.Duration{0, 30 * time.Millisecond} {
			wanted := settings("round-robin")
			wanted.Retry.Timeout, wanted.Retry.Hedge = time.Second, hedge
			wanted.Outlier.Passive.Failures = failures
			s := silence{wanted, *perSec, *runFor / 2}.tell(b)
			health := "off"
			if failures > 0 {
				health = fmt.Sprintf("%d failures", failures)
			}
			t.add(append([]string{health, hedge.String()}, s.silence(b)...)...)
			tellSome(health+", "+hedge.String(), s.failures)
		}
	}
	t.publish(b)
}

// silence are the cells of a story with a silent endpoint.
func (s *story) silence(b *testing.B) []string {
	ejected, until := "no", time.Now()
	if at, ok := s.ejection[silent.String()]; ok {
		ejected, until = ms(at.Sub(s.start)), at
	}
	attempts := 0
	for _, a := range s.attempts(silent) {
		if a.at.Before(until) {
			attempts++
		}
	}
	before, after := s.connects(until)
	return []string{
		percentile(before, 50), percentile(before, 99), strconv.Itoa(attempts), ejected,
		percentile(after, 50), percentile(after, 99),
		strconv.Itoa(len(s.records)), strconv.Itoa(len(s.failures)), strconv.Itoa(s.denied(b)),
	}
}

func BenchmarkMovement(b *testing.B) {
	t := newTable("movement", "100,000 clients at 100 endpoints: how many of a hundred have another endpoint than before",
		"mechanism", "one leaves", "it is back", "usher restarts", "busiest / mean")
	show := func(name, policy string, sticky bool) {
		m := move(b, policy, sticky)
		t.add(name, percent(float64(m.leaves), many), percent(float64(m.back), many), percent(float64(m.restart), many), number(m.busiest, 2))
	}
	for _, name := range balancer.Names() {
		show(name, name, false)
	}
	show("session affinity", balancer.Names()[0], true)
	t.publish(b)
}

const picks = 1_000_000

func BenchmarkPicks(b *testing.B) {
	t := newTable("picks", "1,000,000 picks of 20 endpoints, each with its answer and end, the best of three times",
		"policy", "alone-ns", "alone-allocations", "contended-ns", "contended-allocations")
	for _, name := range balancer.Names() {
		cells := []string{name}
		for _, goroutines := range []int{1, runtime.GOMAXPROCS(0)} {
			took, allocated := pickMany(b, name, goroutines)
			cells = append(cells, number(float64(took)/picks, 0), number(float64(allocated)/picks, 2))
		}
		t.add(cells...)
	}
	t.publish(b)
}

// pickMany is how long 1,000,000 picks take of so many goroutines, and how often they allocate.
func pickMany(b *testing.B, policy string, goroutines int) (best time.Duration, allocated uint64) {
	endpoints := balancertest.Endpoints(of)
	picker := newMechanism(b, policy, false)(endpoints)
	for range 5 { // connections that last, for an idle endpoint would be found at once
		for _, e := range endpoints {
			if chooser, ok := picker.(balancer.Chooser); ok {
				if pick := chooser.Choose(e); pick.Answered != nil {
					pick.Answered(time.Millisecond)
				}
			}
		}
	}
	for round := range 3 {
		var before, after runtime.MemStats
		var all sync.WaitGroup
		runtime.ReadMemStats(&before)
		start := time.Now()
		for range goroutines {
			all.Go(func() {
				for range picks / goroutines {
					pickOnce(b, picker)
				}
			})
		}
		all.Wait()
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if round == 0 || took < best {
			best, allocated = took, after.Mallocs-before.Mallocs
		}
	}
	return best, allocated
}

var client = netip.MustParseAddr("10.0.0.1")

func pickOnce(b *testing.B, p balancer.Picker) {
	pick, err := p.Pick(balancer.Request{Client: client})
	if err != nil {
		b.Error(err)
		return
	}
	if pick.Answered != nil {
		pick.Answered(time.Millisecond)
	}
	if pick.Done != nil {
		pick.Done(balancer.Outcome{Connect: time.Millisecond})
	}
}
