package balancer_test

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

const (
	fast = 10 * time.Millisecond
	slow = 100 * time.Millisecond
)

// backends are endpoints that take their time to answer. They run in a bubble of
// synctest: its clock is theirs.
type backends struct {
	*testing.T
	policy  balancer.Policy
	set     []balancer.Endpoint
	answers map[netip.AddrPort]time.Duration // 0: connections are refused
	lasts   time.Duration                    // a connection after its answer
	running sync.WaitGroup
}

func newBackends(t *testing.T, n int) *backends {
	b := &backends{T: t, policy: newPolicy(t, "latency"), set: balancertest.Endpoints(n), answers: map[netip.AddrPort]time.Duration{}}
	for _, e := range b.set {
		b.answers[e.Addr] = fast
	}
	return b
}

// serve lets connections come for that long, at a rate per second, and returns
// how many of a hundred came to each endpoint first.
func (b *backends) serve(set []balancer.Endpoint, rate int, long time.Duration) map[netip.AddrPort]float64 {
	picker := b.policy.Picker(set)
	share := map[netip.AddrPort]float64{}
	n := rate * int(long/time.Second)
	for range n {
		pick, err := picker.Pick(balancer.Request{})
		if err != nil {
			b.Fatal(err)
		}
		share[pick.Endpoint.Addr] += 100 / float64(n)
		took := b.answers[pick.Endpoint.Addr]
		b.running.Go(func() { b.connection(pick, took) })
		time.Sleep(time.Second / time.Duration(rate))
	}
	return share
}

func (b *backends) connection(pick balancer.Pick, took time.Duration) {
	if took == 0 {
		pick.Done(balancer.Outcome{Err: errors.New("refused"), Connect: time.Microsecond})
		return
	}
	time.Sleep(took)
	pick.Answered(took)
	time.Sleep(b.lasts)
	pick.Done(balancer.Outcome{Connect: time.Millisecond})
}

func (b *backends) within(what string, share, least, most float64) {
	b.Helper()
	b.Logf("%s: %.2f %% of the connections", what, share)
	if share < least || share > most {
		b.Errorf("%s: it got %.2f %% of the connections, want %v to %v", what, share, least, most)
	}
}

// inBubble runs a scenario where few connections are open at a time, and where
// hundreds are, to few endpoints and to many.
func inBubble(t *testing.T, scenario func(b *backends, n int, fair float64)) {
	for name, lasts := range map[string]time.Duration{"short": 0, "long": 3 * time.Second} {
		for _, n := range []int{2, 20} {
			t.Run(name+" connections to "+map[int]string{2: "few", 20: "many"}[n], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBackends(t, n)
					b.lasts = lasts
					scenario(b, n, 100/float64(n))
					b.running.Wait()
				})
			})
		}
	}
}

func TestLatencyLeavesASlowEndpointAndReturnsToIt(t *testing.T) {
	inBubble(t, func(b *backends, n int, fair float64) {
		odd := b.set[1].Addr
		b.within("as fast as the others", b.serve(b.set, 100*n, 20*time.Second)[odd], fair/2, fair*3/2)
		b.answers[odd] = slow
		b.serve(b.set, 100*n, time.Second)
		b.within("slow for a second", b.serve(b.set, 100*n, time.Second)[odd], 0, fair/4)
		b.within("ten times slower", b.serve(b.set, 100*n, 60*time.Second)[odd], 0, fair/4)
		b.answers[odd] = fast
		b.serve(b.set, 100*n, 40*time.Second)
		b.within("40 s after it is fast again", b.serve(b.set, 100*n, 20*time.Second)[odd], fair/2, fair*3/2)
	})
}

func TestLatencyLeavesAnEndpointThatRefuses(t *testing.T) {
	inBubble(t, func(b *backends, n int, fair float64) {
		odd := b.set[1].Addr
		b.serve(b.set, 100*n, 10*time.Second)
		b.answers[odd] = 0
		b.within("refusing", b.serve(b.set, 100*n, 60*time.Second)[odd], 0, fair/50)
		b.answers[odd] = fast
		b.serve(b.set, 100*n, 2*time.Second)
		b.within("two seconds after it is up again", b.serve(b.set, 100*n, 20*time.Second)[odd], fair/2, fair*3/2)
	})
}

// After a single refusal it is asked again soon, and the answer puts all right.
func TestLatencyForgivesAnEndpointThatAnswers(t *testing.T) {
	inBubble(t, func(b *backends, n int, fair float64) {
		odd := b.set[1].Addr
		b.serve(b.set, 100*n, 10*time.Second)
		time.Sleep(time.Second) // all were answered
		b.connection(b.policy.Picker(b.set).(balancer.Chooser).Choose(b.set[1]), 0)
		b.within("just after a refusal", b.serve(b.set, 100*n, 900*time.Millisecond)[odd], 0, fair/20)
		b.serve(b.set, 100*n, time.Second)
		b.within("two seconds after the refusal", b.serve(b.set, 100*n, 10*time.Second)[odd], fair/2, fair*3/2)
	})
}

// An endpoint that nothing is known of gets one connection, and no more until
// that was answered.
func TestLatencyExploresANewEndpointWithoutAStampede(t *testing.T) {
	inBubble(t, func(b *backends, n int, fair float64) {
		odd := b.set[1].Addr
		others := append(b.set[:1:1], b.set[2:]...)
		b.serve(others, 100*n, 10*time.Second)
		b.answers[odd] = 5 * time.Second
		const seconds = 4
		got := b.serve(b.set, 100*n, seconds*time.Second)[odd] / 100 * seconds * float64(100*n)
		if got < 0.9 || got > 1.1 {
			b.Errorf("%.0f connections went to the new endpoint before its first answer, want 1", got)
		}
	})
}

func TestLatencyTriesAllEndpointsFirst(t *testing.T) {
	for _, n := range []int{3, 20} {
		set := balancertest.Endpoints(n)
		got := open(t, newPolicy(t, "latency").Picker(set), 10*n)
		if len(got) != n {
			t.Errorf("%d of %d endpoints were tried", len(got), n)
		}
	}
}

// UDP, and protocols without answers: nothing is ever measured.
func TestLatencyWithoutAnswersCountsConnections(t *testing.T) {
	set := balancertest.Endpoints(10)
	for addr, picks := range open(t, newPolicy(t, "latency").Picker(set), 1000) {
		if len(picks) < 90 || len(picks) > 110 {
			t.Errorf("%v has %d of 1000 connections, want about 100", addr, len(picks))
		}
	}
}
