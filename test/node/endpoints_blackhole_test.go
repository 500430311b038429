package node

import (
	"slices"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// An endpoint that has become silent costs connect-timeout, or hedge, until it is
// left out. When it is back a probe finds out, not a client.
func TestBlackholedEndpoint(t *testing.T) {
	t.Run("costs connect-timeout", func(t *testing.T) {
		const timeout, usual = 500 * time.Millisecond, 2 * time.Second // without the annotation
		b := newBlackhole(t, wishes{"connect-timeout": timeout.String()})
		longest := slices.Max(b.ask(40))
		met := b.met(blackholeFailures)
		t.Logf("%d of 40 connections met the endpoint, the longest took %s", len(met), longest)
		if len(met) != blackholeFailures {
			t.Errorf("%d connections met it, want %d: that many failures leave it out", len(met), blackholeFailures)
		}
		for _, r := range met {
			if len(r.Attempts) != 2 || r.Attempts[0].Result != "connect_timeout" || r.Attempts[1].Result != "ok" {
				t.Errorf("attempts %+v", r.Attempts)
			}
		}
		if typical := secondBegins(met); typical < timeout || typical >= usual {
			t.Errorf("the second attempt begins after %s, want %s", typical, timeout)
		}
		if longest < timeout {
			t.Errorf("the longest connection took %s, connect-timeout is %s", longest, timeout)
		}
		b.isLeftOutAndReturns()
	})
	t.Run("costs hedge", func(t *testing.T) {
		const timeout, hedge = 2 * time.Second, 50 * time.Millisecond
		b := newBlackhole(t, wishes{"connect-timeout": timeout.String(), "hedge": hedge.String()})
		longest := slices.Max(b.ask(40))
		met := b.met(blackholeFailures)
		for _, r := range met {
			// On a busy machine a third one may begin too.
			last := r.Attempts[len(r.Attempts)-1]
			if r.Attempts[0].Result != "superseded" || last.Result != "ok" || !last.Hedged {
				t.Errorf("attempts %+v", r.Attempts)
			}
		}
		t.Logf("%d of 40 connections met the endpoint, the longest took %s", len(met), longest)
		if typical := secondBegins(met); typical < hedge || typical > timeout/2 {
			t.Errorf("the second attempt begins after %s, want %s", typical, hedge)
		}
		if longest < hedge {
			t.Errorf("the longest connection took %s, hedge is %s", longest, hedge)
		}
		b.isLeftOutAndReturns()
	})
}

// blackholeFailures in a row leave the endpoint out.
const blackholeFailures = 3

// blackhole is a Service of which one endpoint of three becomes silent.
type blackhole struct {
	*scene
	u    *usher.Process
	hole *netns.Pod
	mend func()
}

func newBlackhole(t *testing.T, more wishes) *blackhole {
	s := newScene(t)
	b := &blackhole{scene: s, hole: s.AddPod(netns.Bridged, "hole")}
	b.hole.ServeHTTP(b.hole.Name, b.hole.AddrPort4(8080))
	more["passive-health"] = "consecutive-failures=3,base=1s"
	s.write("web.yaml", annotated(manifest("web", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4, b.hole.IPv4), "web", more))
	b.u = s.startSeen()
	served(t, s.client.NS, vip(10))
	awaitAnswers(t, s.client.NS, vip(10), "hole", "pod-1", "pod-2")
	b.mend = drop(b.hole, "tcp", 8080)
	return b
}

// ask makes n connections one after the other and returns how long each took.
func (b *blackhole) ask(n int) (took []time.Duration) {
	b.t.Helper()
	for range n {
		start := time.Now()
		if answer, err := b.client.Get(vip(10)); err != nil || answer == "hole" {
			b.t.Errorf("%q answers, %v", answer, err)
		}
		took = append(took, time.Since(start))
	}
	return took
}

// met are the records, at least n, of connections that have tried the silent endpoint first.
func (b *blackhole) met(n int) []usher.Record {
	b.t.Helper()
	return b.u.Records(n, func(r usher.Record) bool {
		return len(r.Attempts) > 0 && r.Attempts[0].Backend == b.hole.AddrPort4(8080).String() && r.Attempts[0].Result != "ok" && !r.Attempts[0].Hedged
	})
}

// secondBegins is the median of when the second attempt of a connection began.
func secondBegins(records []usher.Record) time.Duration {
	var after []time.Duration
	for _, r := range records {
		if len(r.Attempts) > 1 {
			after = append(after, time.Duration(r.Attempts[1].StartMS*float64(time.Millisecond)))
		}
	}
	if len(after) == 0 {
		return 0
	}
	slices.Sort(after)
	return after[len(after)/2]
}

func (b *blackhole) isLeftOutAndReturns() {
	b.t.Helper()
	b.u.WaitLog("endpoint " + b.hole.AddrPort4(8080).String() + " is ill: 3 connections in a row failed")
	b.is("web", b.hole, "out", "3 connections in a row failed")
	b.is("web", b.pods[0], "in", "ready")
	b.ask(10)

	b.mend()
	b.u.WaitLog("endpoint " + b.hole.AddrPort4(8080).String() + " is well again")
	awaitAnswers(b.t, b.client.NS, vip(10), "hole", "pod-1", "pod-2")
	b.is("web", b.hole, "in", "ready")
	if n := countLines(b.u.Log(), " is ill: "); n != 1 {
		b.t.Errorf("%d lines tell of endpoints that are ill", n)
	}
}
