package outlier

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// upgrade puts the Detector of a next process in the place of this one, which gets what it
// has written down, and its sets one after the other.
func (l *lab) upgrade(s Settings) []EndpointState {
	l.t.Helper()
	written, err := json.Marshal(l.d.State())
	if err != nil {
		l.t.Fatal(err)
	}
	var states []EndpointState
	if err := json.Unmarshal(written, &states); err != nil {
		l.t.Fatal(err)
	}
	l.d.Close()
	protocol := map[bool]string{true: "udp", false: "tcp"}[l.d.udp]
	l.d = New(l.prober, protocol, Settings{}, l.changed)
	l.d.Restore(states)
	l.d.Set(s)
	for _, set := range sets {
		if members := l.members[set]; len(members) > 0 {
			l.serve(set, members...)
		}
	}
	return states
}

func TestWhoIsEjectedStaysOutForTheRestOfItsTime(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		l.serve("local", addrs(a, d)...)
		l.set(refused, addr(a))
		start := time.Now()
		l.connections(2, refused, addr(b))
		l.connections(3, refused, addr(a))
		l.wait(14 * time.Second) // a probe has failed meanwhile
		l.news()
		l.questions(addr(a), start)
		want := "ill for 14s, 3 connections in a row failed (connection refused), its back-off is 20s, a probe decides in 16s"
		l.wantWhy(addr(a), want)

		for range 3 {
			if states := l.upgrade(passive); len(states) != 2 || states[0].Endpoint != addr(a) || !states[0].Since.Equal(start) || states[1].Failures != 2 {
				t.Errorf("the states are %+v", states)
			}
			l.wantUsed("cluster", addrs(b, c, d)...)
			l.wantUsed("local", addr(d))
			l.wantWhy(addr(a), want)
			l.wantWhy(addr(b), "in, 2 connections failed (connection refused), 3 in a row leave it out")
			l.wantNews()
		}
		l.wait(16 * time.Second)
		l.wantQuestions(addr(a), start, 30*time.Second)
		l.wantUsed("cluster", addrs(b, c, d)...)
		l.set(nil, addr(a))
		l.wait(40 * time.Second)
		l.wantUsed("cluster", addrs(a, b, c, d)...)
		l.wantUsed("local", addrs(a, d)...)
		l.wantNews(Change{Endpoint: addr(a), Cause: ByProbe, Why: "the probe succeeded"})
		l.connections(1, refused, addr(b)) // the third
		l.wantUsed("cluster", addrs(a, c, d)...)

		l.connections(1, nil, addr(b))
		l.upgrade(passive)
		l.wantWhy(addr(a), "in, left out before, so that its next back-off is 1m0s")
	})
}

// The first that went out are withheld, in the next process too.
func TestTheOrderInWhichTheyWentOutIsKept(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		for _, e := range addrs(d, b, a) {
			l.connections(3, refused, e)
		}
		l.upgrade(passive)
		l.wantUsed("cluster", addrs(a, c)...)
		l.connections(1, nil, addr(b))
		l.wantUsed("cluster", addrs(b, c)...)
	})
}

func TestWhatChecksHaveSaidIsKept(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		l.set(refused, addr(a))
		l.wait(40 * time.Second) // three checks of it at least
		l.wantUsed("cluster", addrs(b, c, d)...)
		l.upgrade(checked())
		l.wantUsed("cluster", addrs(b, c, d)...)
		l.set(nil, addr(a))
		l.wait(30 * time.Second)
		l.wantUsed("cluster", addrs(a, b, c, d)...)

		l.set(refused, addr(b))
		for range 4 { // however often it begins anew: bad ones in a row leave it out
			l.wait(9 * time.Second)
			l.upgrade(checked())
			l.wait(3 * time.Second)
		}
		l.wantUsed("cluster", addrs(a, c, d)...)
	})
}

func TestSettingsThatHaveNoUseForWhatWasKnown(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d, 5, 6)...)
		l.connections(3, refused, addr(a))
		l.set(refused, addr(b))
		l.wait(time.Minute)
		l.wantUsed("cluster", addrs(a, c, d, 5, 6)...) // a check has brought a back
		l.connections(3, refused, addr(a))
		l.upgrade(passive) // without checks
		l.wantUsed("cluster", addrs(b, c, d, 5, 6)...)
		short := passive
		short.Passive.Max = 15 * time.Second
		l.upgrade(short)
		for _, s := range l.d.Status() {
			if s.Out && s.Next.After(time.Now().Add(15*time.Second)) {
				t.Errorf("it is asked at %s: %+v", s.Next, s)
			}
		}
		l.upgrade(Settings{})
		l.wantUsed("cluster", addrs(a, b, c, d, 5, 6)...)
		if states := l.d.State(); len(states) > 0 {
			t.Errorf("it knows %+v", states)
		}
	})
}

// One that was away does not clear itself by an upgrade of usher.
func TestWhoIsAwayIsRememberedByTheNextProcess(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(2, refused, addr(a))
		l.serve("cluster", addrs(b, c)...)
		l.wait(4 * time.Minute)
		l.upgrade(passive)
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(1, refused, addr(a))
		l.wantUsed("cluster", addrs(b, c)...)

		l.serve("cluster", addrs(b, c)...)
		l.wait(4 * time.Minute)
		l.upgrade(passive)
		l.wait(2 * time.Minute) // six in all
		l.serve("cluster", addrs(a, b, c)...)
		l.wantUsed("cluster", addrs(a, b, c)...)
	})
}

// A connection that was adopted counts for the policy, be its endpoint well or not: it may
// come back before the connection ends.
func TestAdoptedConnectionsCount(t *testing.T) {
	for _, name := range []string{"least-connections", "p2c", "latency"} {
		for _, sticky := range []bool{false, true} {
			t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { adopts(t, name, sticky) }) })
		}
	}
}

func adopts(t *testing.T, name string, sticky bool) {
	policy, err := balancer.New(name)
	if err != nil {
		t.Fatal(err)
	}
	affinity := balancer.NewAffinity(10)
	prober := NewProber(nil)
	defer prober.Close()
	detector := New(prober, "udp", passive, nil) // which needs no probe to come back
	defer detector.Close()
	detector.Restore([]EndpointState{{Endpoint: addr(b), Failures: 3, Ejected: true, Ejections: 1, Until: time.Now().Add(time.Second), Since: time.Now()}})
	picker := detector.Picker("cluster", func(in []balancer.Endpoint) balancer.Picker {
		p := policy.Picker(in)
		if sticky {
			p = affinity.Picker(p, in, time.Hour)
		}
		return p
	}, []balancer.Endpoint{{Addr: addr(a)}, {Addr: addr(b)}, {Addr: addr(c)}})
	if !detector.Out("cluster", addr(b)) {
		t.Fatal("it is in")
	}

	adopt := func(e netip.AddrPort, n int) {
		for range n {
			pick := picker.(balancer.Chooser).Choose(balancer.Endpoint{Addr: e})
			if pick.Endpoint.Addr != e || pick.Done == nil {
				t.Fatalf("adopted is %+v", pick)
			}
			if pick.Answered != nil {
				pick.Answered(time.Millisecond)
			}
		}
	}
	adopt(addr(a), 9)
	adopt(addr(b), 9)
	adopt(addr(c), 1)
	if gone := picker.(balancer.Chooser).Choose(balancer.Endpoint{Addr: addr(d)}); gone.Endpoint.Addr != addr(d) || gone.Done != nil {
		t.Errorf("of an endpoint that is gone: %+v", gone)
	}
	if affinity.Len() > 0 {
		t.Errorf("%d clients are bound", affinity.Len())
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
	if detector.Out("cluster", addr(b)) {
		t.Fatal("it is out")
	}
	var got []netip.AddrPort
	for range 5 {
		pick, err := picker.Pick(balancer.Request{})
		if err != nil {
			t.Fatal(err)
		}
		if pick.Answered != nil {
			pick.Answered(time.Millisecond)
		}
		got = append(got, pick.Endpoint.Addr)
	}
	// Two of three are drawn: the better one of a pair, and a pair may be one twice.
	if strangers := slices.DeleteFunc(slices.Clone(got), func(e netip.AddrPort) bool { return e == addr(c) }); name != "p2c" && len(strangers) > 0 || len(strangers) == len(got) {
		t.Errorf("picked are %v; want those with fewest connections", got)
	}
}
