package outlier

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

func TestHowManyMayBeWithheld(t *testing.T) {
	for _, c := range []struct {
		share float64
		n     int
		want  int
	}{
		{0, 10, 0}, {0.5, 0, 0}, {0.5, 1, 0}, {0.5, 2, 1}, {0.5, 3, 1}, {0.5, 4, 2}, {1, 1, 0}, {1, 2, 1}, {1, 100, 99},
		{0.29, 100, 29}, {0.999, 100, 99}, {0.1, 9, 0}, {0.1, 10, 1}, {2, 4, 3}, {-1, 4, 0}, {math.NaN(), 4, 0}, {math.Inf(1), 4, 3},
	} {
		s := Settings{Passive: Passive{MaxEjected: c.share}}.sane()
		if p := s.Passive.MaxEjected; !(p >= 0 && p <= 1) {
			t.Errorf("%v counts as %v", c.share, p)
		}
		if got := (&set{endpoints: make([]balancer.Endpoint, c.n)}).most(s.Passive); got != c.want {
			t.Errorf("%v of %d are %d; want %d", c.share, c.n, got, c.want)
		}
	}
}

// All go down, one after the other: the first ones are withheld. Whoever is withheld
// and returns makes room for the next.
func TestWhoWentOutFirstIsWithheld(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		for _, e := range addrs(d, b, a, c) {
			l.connections(3, refused, e)
		}
		l.wantUsed("cluster", addrs(a, c)...)
		var kept []bool
		for _, n := range l.news() {
			kept = append(kept, n.Kept)
		}
		if want := []bool{false, false, true, true}; !slices.Equal(kept, want) {
			t.Errorf("kept are %v; want %v", kept, want)
		}
		l.wantWhy(addr(a), "ill for 0s, 3 connections in a row failed (connection refused), its back-off is 10s, a probe decides in 10s, "+
			"stays in use all the same (set cluster: no more than 2 of 4 may be left out)")
		if s := l.d.Status(); s[0].Withheld != nil || !s[0].Out || len(s[1].Withheld) != 1 {
			t.Errorf("the status is %+v", s)
		}
		l.connections(1, nil, addr(d))
		l.wantUsed("cluster", addrs(c, d)...)
		l.connections(1, nil, addr(c))
		l.wantUsed("cluster", addrs(c, d)...)
		l.connections(1, nil, addr(a), addr(b))
		l.wantUsed("cluster", addrs(a, b, c, d)...)
	})
}

func TestEachSetHasAShareOfItsOwn(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		l.serve("local", addr(b))
		l.connections(3, refused, addr(b))
		l.wantUsed("cluster", addrs(a, c, d)...)
		l.wantUsed("local", addr(b)) // the last one is never left out
		l.wantWhy(addr(b), "ill for 0s, 3 connections in a row failed (connection refused), its back-off is 10s, a probe decides in 10s, "+
			"stays in use all the same (set local: no more than 0 of 1 may be left out)")
		l.serve("local", addrs(a, b)...)
		l.wantUsed("local", addr(a))
		l.serve("cluster", addrs(a, b)...)
		l.wantUsed("cluster", addr(a))
		l.connections(3, refused, addr(a))
		l.wantUsed("cluster", addr(a))
	})
}

// Withheld endpoints are the last resort: whoever has tried all others gets them.
func TestAllAreReachedInTheEnd(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		members := upTo(9)
		l.serve("cluster", members...)
		out := members[2:6]
		l.connections(3, refused, out...)
		var r balancer.Request
		for range members {
			pick, err := l.pickers["cluster"].Pick(r)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(r.Tried, pick.Endpoint.Addr) {
				t.Fatalf("%s comes again", pick.Endpoint.Addr)
			}
			r.Tried = append(r.Tried, pick.Endpoint.Addr)
		}
		if _, err := l.pickers["cluster"].Pick(r); err != balancer.ErrNoEndpoints {
			t.Errorf("in the end comes %v", err)
		}
		last := slices.SortedFunc(slices.Values(r.Tried[5:]), netip.AddrPort.Compare)
		if !slices.Equal(last, out) {
			t.Errorf("the last ones are %v; want %v", last, out)
		}
		l.serve("cluster")
		if _, err := l.pickers["cluster"].Pick(balancer.Request{}); err != balancer.ErrNoEndpoints {
			t.Errorf("of nothing comes %v", err)
		}
	})
}

// A pod restarts: its endpoint leaves and returns, and is what it was.
func TestWhatIsKnownSurvivesAnAbsence(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(refused, addr(a))
		start := time.Now()
		l.connections(3, refused, addr(a))
		l.serve("cluster", addrs(b, c)...)
		l.wait(4 * time.Minute)
		l.wantQuestions(addr(a), start) // nobody is asked who is not there
		if n := l.prober.Stats().Waiting; n != 0 {
			t.Errorf("%d are to be asked", n)
		}
		l.serve("cluster", addrs(a, b, c)...)
		l.wantUsed("cluster", addrs(b, c)...)
		l.wait(time.Second)
		l.wantQuestions(addr(a), start, 4*time.Minute) // its back-off has ended meanwhile
		l.wantUsed("cluster", addrs(b, c)...)

		l.serve("cluster", addrs(b, c)...)
		l.wait(remembered + time.Second)
		l.serve("cluster", addrs(a, b, c)...)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantWhy(addr(a), "in, nothing speaks against it")
	})
}

func TestALongBackOffIsRememberedForAsLong(t *testing.T) {
	s := passive
	s.Passive.Base, s.Passive.Max = time.Hour, time.Hour
	withLab(t, "tcp", s, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		l.serve("cluster", addrs(b, c)...)
		l.wait(59 * time.Minute)
		l.serve("cluster", addrs(a, b, c)...)
		l.wantUsed("cluster", addrs(b, c)...)
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		for round := range 10 {
			var members []int
			for i := range 300 {
				members = append(members, round*300+i)
			}
			l.serve("cluster", addrs(members...)...)
			l.connections(1, refused, addrs(members...)...)
			l.wait(time.Second)
		}
		l.serve("cluster", addr(60000))
		if n := len(l.d.endpoints); n != rememberedMost {
			t.Errorf("%d endpoints are remembered", n)
		}
		l.serve("cluster", addrs(2999, 0)...)
		l.wantWhy(addr(2999), "in, 1 connection failed (connection refused), 3 in a row leave it out")
		l.wantWhy(addr(0), "in, nothing speaks against it")
		l.wait(remembered + time.Second)
		l.serve("cluster", addr(60000))
		l.wait(remembered + time.Second)
		l.serve("cluster", addr(60000))
		if n := len(l.d.endpoints); n != 0 {
			t.Errorf("%d endpoints are remembered after all is over", n)
		}
	})
}

// The old Picker of a set is in use a little longer.
func TestAReplacedPickerStaysAsItIs(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		old := l.pickers["cluster"]
		l.serve("cluster", addrs(b, c, d)...)
		l.connections(3, refused, addr(b))
		l.wantUsed("cluster", addrs(c, d)...)
		got := map[string]bool{}
		for range 9 {
			pick, _ := old.Pick(balancer.Request{})
			got[pick.Endpoint.Addr.String()] = true
		}
		if len(got) != 3 {
			t.Errorf("it picks %v", got)
		}
	})
}

// Pickers are made anew only when others are in use than before.
func TestBuildIsCalledForChangesOnly(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.serve("local", addrs(c)...)
		before := l.builds
		l.connections(2, refused, addrs(a, b, c)...)
		l.connections(10, nil, addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		l.connections(3, refused, addr(b), addr(c)) // kept
		l.connections(1, nil, addr(b), addr(c))
		if n := l.builds - before; n != 1 {
			t.Errorf("build was called %d times", n)
		}
	})
}

func TestSettingsChange(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		l.connections(3, refused, addr(a), addr(b), addr(c))
		l.wantUsed("cluster", addrs(c, d)...)
		s := passive
		s.Passive.MaxEjected = 1
		l.d.Set(s)
		l.wantUsed("cluster", addr(d))
		s.Passive.MaxEjected = 0.25
		l.d.Set(s)
		l.wantUsed("cluster", addrs(b, c, d)...)
		l.news()
		s.Passive.Failures = 0
		l.d.Set(s)
		l.wantUsed("cluster", addrs(a, b, c, d)...)
		if news := l.news(); len(news) != 3 || news[0].Cause != BySettings || news[0].Out {
			t.Errorf("the news are %+v", news)
		}
		l.connections(100, refused, addr(a))
		l.wantUsed("cluster", addrs(a, b, c, d)...)
		if n := l.prober.Stats().Waiting; n != 0 {
			t.Errorf("%d are to be asked", n)
		}
	})
}

func TestAShorterMaxEndsALongBackOff(t *testing.T) {
	s := passive
	s.Passive.Base, s.Passive.Max = time.Hour, time.Hour
	withLab(t, "tcp", s, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		l.d.Set(passive)
		l.wait(passive.Passive.Max)
		l.wantUsed("cluster", addrs(a, b, c)...)
	})
}

// What means nothing has a meaning all the same, and nothing fails by it.
func TestSettingsWithoutSense(t *testing.T) {
	for _, s := range []Settings{
		{},
		{Passive: Passive{Failures: -1, Base: -1, Max: -5, MaxEjected: math.NaN()}},
		{Passive: Passive{Failures: 1, MaxEjected: math.Inf(1)}, Check: Check{Kind: "dns", Interval: time.Second}, ProxyProtocol: 9},
		{Passive: Passive{Failures: 1 << 40, Base: math.MaxInt64, Max: math.MaxInt64, MaxEjected: 1}, Check: Check{Kind: CheckTCP, Interval: math.MaxInt64 / 4, Timeout: -1, Rise: -1}},
		{Passive: Passive{Failures: 1, Base: math.MaxInt64 / 3, Max: math.MaxInt64, MaxEjected: 1}, Check: Check{Kind: CheckHTTP, Timeout: time.Hour}},
	} {
		withLab(t, "tcp", s, func(l *lab) {
			l.serve("cluster", addrs(a, b)...)
			for range 5 {
				l.connections(1, refused, addr(a))
				l.wait(time.Millisecond)
				l.d.Status()
			}
			if n := len(l.used("cluster")); n == 0 {
				t.Error("nothing is in use")
			}
		})
	}
}

func TestNothingHappensAfterClose(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		l.d.Close()
		l.d.Close()
		l.news()
		l.connections(3, refused, addr(b))
		l.d.Set(Settings{})
		start := time.Now()
		l.wait(time.Hour)
		l.wantQuestions(addr(a), start)
		l.wantUsed("cluster", addrs(b, c)...)
		l.serve("cluster", addrs(a, b, d)...)
		l.wantUsed("cluster", addrs(b, d)...)
		l.wantNews()
	})
}

// Whoever is told of a change may report what it finds; of that it is told after.
func TestChangesAreToldOneAtATime(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		var story []string
		l.d.changed = func(change Change) {
			story = append(story, "begin "+change.Endpoint.String())
			if change.Endpoint == addr(a) {
				for range 3 {
					l.d.Report(addr(b), refused)
				}
			}
			story = append(story, "end "+change.Endpoint.String())
		}
		l.connections(3, refused, addr(a))
		if want := []string{"begin 10.0.0.1:80", "end 10.0.0.1:80", "begin 10.0.0.2:80", "end 10.0.0.2:80"}; !slices.Equal(story, want) {
			t.Errorf("told is %q; want %q", story, want)
		}
		l.wantUsed("cluster", addrs(c, d)...)
	})
}
