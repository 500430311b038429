package outlier

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Fall bad checks leave an endpoint out, Rise good ones bring it back; none of it
// needs a connection.
func TestChecksLeaveOutAndBringBack(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.wantUsed("cluster", addrs(a, b, c)...) // before any check
		l.wantWhy(addr(a), "in, not checked yet")
		l.wait(10 * time.Second)
		l.wantWhy(addr(a), "in, the last check was good")

		l.set(refused, addr(a))
		l.untilAsked(addr(a), 2)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantWhy(addr(a), "in, 2 checks failed (connection refused), 3 in a row leave it out")
		l.untilAsked(addr(a), 1)
		l.wantUsed("cluster", addrs(b, c)...)
		why := "3 checks in a row failed (connection refused), 2 good in a row bring it back"
		l.wantNews(Change{Endpoint: addr(a), Out: true, Cause: ByChecks, Why: why})
		l.wantWhy(addr(a), "ill for 0s, "+why)
		l.connections(9, nil, addr(a)) // connections do not overrule checks
		l.wantUsed("cluster", addrs(b, c)...)

		l.set(nil, addr(a))
		l.untilAsked(addr(a), 1)
		l.wantUsed("cluster", addrs(b, c)...)
		l.set(refused, addr(a))
		l.untilAsked(addr(a), 1) // Rise is in a row too
		l.set(nil, addr(a))
		l.untilAsked(addr(a), 1)
		l.wantUsed("cluster", addrs(b, c)...)
		l.untilAsked(addr(a), 1)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews(Change{Endpoint: addr(a), Cause: ByChecks, Why: "checks succeed"})
		if s := l.prober.Stats(); s.Bad != 4 || s.Good < 7 || s.Waiting != 3 || s.Running != 0 || s.Late != 0 || s.Unknown != 0 {
			t.Errorf("the stats are %+v", s)
		}
	})
}

// untilAsked waits until an endpoint has been asked so many more times.
func (l *lab) untilAsked(e netip.AddrPort, times int) {
	l.t.Helper()
	for range times {
		i := slices.IndexFunc(l.d.Status(), func(s Status) bool { return s.Endpoint == e })
		next := l.d.Status()[i].Next
		if !next.After(time.Now()) {
			l.t.Fatalf("%s is to be asked at %v", e, next)
		}
		l.questions(e, next)
		l.wait(time.Until(next))
		l.wantQuestions(e, next, 0)
	}
}

func TestChecksComeEveryIntervalMoreOrLess(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		members := upTo(200)
		start := time.Now()
		l.serve("cluster", members...)
		l.wait(10 * time.Minute)
		var firstHalf, early int
		for _, m := range members {
			at := l.questions(m, start)
			if at[0] < 5*time.Second {
				firstHalf++
			}
			if at[0] >= 10*time.Second {
				t.Fatalf("the first check came after %s", at[0])
			}
			for i := range at[1:] {
				gap := at[i+1] - at[i]
				if gap < 8*time.Second || gap > 12*time.Second {
					t.Fatalf("a check came after %s", gap)
				}
				if gap < 10*time.Second {
					early++
				}
			}
		}
		if firstHalf < 50 || firstHalf > 150 {
			t.Errorf("%d of 200 first checks come in the first half of the interval", firstHalf)
		}
		if all := 200 * 59; early < all/3 || early > all*2/3 {
			t.Errorf("%d checks of about %d come early", early, all)
		}
	})
}

// Connections see what the check does not. The check is the probe then, and comes
// when the back-off ends.
func TestACheckIsTheProbe(t *testing.T) {
	s := checked()
	s.Check.Interval = time.Minute
	withLab(t, "tcp", s, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.untilAsked(addr(a), 1)
		start := time.Now()
		l.connections(3, silent, addr(a))
		l.wantUsed("cluster", addrs(b, c)...)
		l.wantWhy(addr(a), "ill for 0s, 3 connections in a row failed (connection timed out), its back-off is 10s, a good check brings it back in 10s, the last check was good")
		l.news()
		l.wait(10 * time.Second)
		l.wantQuestions(addr(a), start, 10*time.Second)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews(Change{Endpoint: addr(a), Cause: ByChecks, Why: "checks succeed"})
		l.wait(47 * time.Second)
		if n := len(l.questions(addr(a), start)); n != 0 {
			t.Errorf("%d checks follow within the interval", n)
		}

		// The next back-off is 20 s; a good check before its end does not count.
		l.connections(3, silent, addr(a))
		l.wait(19 * time.Second)
		l.wantUsed("cluster", addrs(b, c)...)
		l.wait(time.Second)
		l.wantUsed("cluster", addrs(a, b, c)...)
	})
}

// Bad checks do not lengthen the back-off: what comes back waits for its check only.
func TestAfterALongOutageTheCheckDecides(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(refused, addr(a))
		l.connections(3, refused, addr(a))
		l.wait(time.Hour)
		l.wantUsed("cluster", addrs(b, c)...)
		if news := l.news(); len(news) != 1 {
			t.Errorf("the news are %+v", news) // it was out already when checks failed too
		}
		l.set(nil, addr(a))
		l.wait(24 * time.Second) // Rise times the interval, with its jitter
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		l.wantWhy(addr(a), "ill for 0s, 3 connections in a row failed (connection refused), its back-off is 20s, a good check brings it back in 20s, the last check was good")
	})
}

func TestChecksThatCannotBeMadeSayNothing(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(unix.EMFILE, addrs(a, b, c)...)
		l.wait(time.Hour)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews()
		l.wantWhy(addr(a), "in, not checked yet, the last attempt to ask it failed here and says nothing of it: too many open files")
	})
}

// The check itself is wrong, or its network: half of the endpoints stay in use.
func TestWhenAllChecksFailSomeStay(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		members := upTo(10)
		l.serve("cluster", members...)
		l.set(silent, members...)
		l.wait(5 * time.Minute)
		if n := len(l.used("cluster")); n != 5 {
			t.Errorf("%d are in use", n)
		}
		l.set(nil, members...)
		l.wait(24 * time.Second)
		l.wantUsed("cluster", members...)
	})
}

func TestTheCheckOfAnotherPort(t *testing.T) {
	s := checked()
	s.Check.Port = 8081
	withLab(t, "udp", s, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(refused, addr(a))
		port := netip.AddrPortFrom(addr(b).Addr(), 8081)
		l.set(refused, port)
		l.wait(40 * time.Second)
		l.wantUsed("cluster", addrs(a, c)...)
		if n := len(l.asked); n == 0 || l.asked[0].network != "tcp" || l.asked[0].to.Port() != 8081 {
			t.Errorf("asked were %+v", l.asked)
		}
	})
}

func TestChecksAreTurnedOnAndOff(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(refused, addr(a))
		l.wait(time.Hour)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.d.Set(checked())
		l.wait(34 * time.Second) // the first one within the interval, two more
		l.wantUsed("cluster", addrs(b, c)...)
		s := checked()
		s.Check.Interval = 20 * time.Second // the same question: what is known stays
		l.d.Set(s)
		l.wantUsed("cluster", addrs(b, c)...)
		l.news()
		l.d.Set(passive)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews(Change{Endpoint: addr(a), Cause: BySettings, Why: "what left it out was turned off"})
		l.wait(0) // one may have been under way
		l.questions(addr(a), time.Now())
		l.wait(time.Hour)
		l.wantQuestions(addr(a), time.Now())
		if n := l.prober.Stats().Waiting; n != 0 {
			t.Errorf("%d are to be asked", n)
		}
	})
}

// What a check is asked counts from when it is asked so.
func TestAnotherQuestionBeginsAnew(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(refused, addr(a))
		l.untilAsked(addr(a), 2)
		s := checked()
		s.Check.Path = "/healthz"
		l.d.Set(s)
		l.untilAsked(addr(a), 2)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.untilAsked(addr(a), 1)
		l.wantUsed("cluster", addrs(b, c)...)
	})
}

// It returns ready for Kubernetes: it is asked at once.
func TestAFailedEndpointThatReturnsIsCheckedAtOnce(t *testing.T) {
	s := checked()
	s.Check.Rise = 1
	withLab(t, "tcp", s, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(refused, addr(a))
		l.wait(time.Minute)
		l.serve("cluster", addrs(b, c)...)
		l.set(nil, addr(a))
		l.wait(time.Minute)
		l.serve("cluster", addrs(a, b, c)...)
		l.wantUsed("cluster", addrs(b, c)...)
		l.wait(0)
		l.wantUsed("cluster", addrs(a, b, c)...)
	})
}
