package outlier

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	a = iota + 1
	b
	c
	d
)

// The pod behind a dies; connections notice, a probe notices that it is back.
func TestAnEndpointThatRefusesIsLeftOutUntilAProbeSucceeds(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(refused, addr(a))
		l.connections(2, refused, addr(a))
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews()
		l.wantWhy(addr(a), "in, 2 connections failed (connection refused), 3 in a row leave it out")
		l.wantWhy(addr(b), "in, nothing speaks against it")

		start := time.Now()
		l.connections(1, refused, addr(a))
		l.wantUsed("cluster", addrs(b, c)...)
		l.wantNews(Change{Endpoint: addr(a), Out: true, Cause: ByConnections,
			Why: "3 connections in a row failed (connection refused), its back-off is 10s, then a probe decides"})
		l.wait(4 * time.Second)
		l.wantWhy(addr(a), "ill for 4s, 3 connections in a row failed (connection refused), its back-off is 10s, a probe decides in 6s")
		if s := l.d.Status()[0]; !s.Out || len(s.Withheld) != 1 || s.Withheld[0] != "cluster" || !s.Since.Equal(start) || !s.Next.Equal(start.Add(10*time.Second)) {
			t.Errorf("the status is %+v", s)
		}

		l.wait(7 * time.Second)
		l.wantQuestions(addr(a), start, 10*time.Second)
		l.wantUsed("cluster", addrs(b, c)...)
		l.wantWhy(addr(a), "ill for 11s, 3 connections in a row failed (connection refused), its back-off is 20s, a probe decides in 19s")
		l.set(nil, addr(a))
		l.wait(20 * time.Second)
		l.wantQuestions(addr(a), start, 30*time.Second)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews(Change{Endpoint: addr(a), Cause: ByProbe, Why: "the probe succeeded"})
		l.wantWhy(addr(a), "in, left out before, so that its next back-off is 40s")
		l.wait(time.Hour)
		l.wantQuestions(addr(a), start)
		l.wantQuestions(addr(b), start)
	})
}

func TestOnlyFailuresInARowEject(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		for range 10 {
			l.connections(2, refused, addr(a))
			l.connections(1, nil, addr(a))
		}
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews()
		l.connections(2, refused, addr(a))
		l.wait(24 * time.Hour) // nothing passes by itself
		l.connections(1, refused, addr(a))
		l.wantUsed("cluster", addrs(b, c)...)
	})
}

func TestTheBackOffDoublesAndIsForgiven(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		ejected := func(want time.Duration) {
			t.Helper()
			start := time.Now()
			l.connections(3, refused, addr(a))
			l.wantUsed("cluster", addrs(b, c)...)
			l.wait(want + time.Second)
			l.wantQuestions(addr(a), start, want)
			l.wantUsed("cluster", addrs(a, b, c)...)
		}
		for _, want := range []time.Duration{10, 20, 40, 60, 60, 60} {
			ejected(want * time.Second)
		}
		l.wait(59 * time.Second) // two minutes in all since it came back: two doublings less
		l.wait(time.Minute)
		ejected(40 * time.Second)
		l.wait(time.Hour)
		ejected(10 * time.Second)
	})
}

func TestALongOutageEndsWithinMax(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.set(silent, addr(a))
		start := time.Now()
		l.connections(3, silent, addr(a))
		l.wait(10 * time.Minute)
		for i, at := range l.questions(addr(a), start) {
			// Each attempt lasts for two seconds and the next back-off begins after it.
			want := []time.Duration{10, 32, 74, 136, 198, 260, 322, 384, 446, 508, 570}[i] * time.Second
			if at != want {
				t.Errorf("probe %d came after %s; want %s", i, at, want)
			}
		}
		l.wantWhy(addr(a), "ill for 10m0s, 3 connections in a row failed (no connection within 2s), its back-off is 1m0s, a probe decides in 32s")
		l.set(nil, addr(a))
		l.wait(passive.Passive.Max)
		l.wantUsed("cluster", addrs(a, b, c)...)
	})
}

// Where nothing else is left connections are a better judge than time.
func TestAConnectionIsAsGoodAsAProbe(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		l.news()
		l.connections(1, nil, addr(a))
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews(Change{Endpoint: addr(a), Cause: ByConnections, Why: "a connection succeeded"})
		l.wait(time.Hour)
		l.wantQuestions(addr(a), time.Now()) // no probe any more
	})
}

func TestUDPComesBackAfterTheBackOff(t *testing.T) {
	withLab(t, "udp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		l.wantUsed("cluster", addrs(b, c)...)
		l.wantWhy(addr(a), "ill for 0s, 3 connections in a row failed (connection refused), its back-off is 10s, it comes back in 10s")
		l.news()
		l.wait(10 * time.Second)
		l.wantUsed("cluster", addrs(a, b, c)...)
		l.wantNews(Change{Endpoint: addr(a), Cause: ByTime, Why: "its back-off is over"})
		l.wantQuestions(addr(a), time.Now())
		l.connections(3, refused, addr(a))
		l.wait(19 * time.Second)
		l.wantUsed("cluster", addrs(b, c)...)
		l.wait(time.Second)
		l.wantUsed("cluster", addrs(a, b, c)...)
	})
}

// The fault is here: no endpoint is left out, and none comes back for it.
func TestOwnFaultsSayNothing(t *testing.T) {
	own := []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EADDRNOTAVAIL, unix.EADDRINUSE,
		unix.EINVAL, unix.EAFNOSUPPORT, context.Canceled, fmt.Errorf("dial: %w", unix.EMFILE)}
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		for _, err := range own {
			l.connections(3, err, addr(a))
		}
		l.wantUsed("cluster", addrs(a, b, c)...)
		for _, err := range []error{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNRESET, unix.ETIMEDOUT, context.DeadlineExceeded, fmt.Errorf("no answer")} {
			l.connections(3, err, addr(a))
			l.wantUsed("cluster", addrs(b, c)...)
			l.connections(1, nil, addr(a))
		}

		l.wait(time.Hour)
		l.set(unix.EMFILE, addr(a))
		start := time.Now()
		l.connections(3, refused, addr(a))
		l.wait(35 * time.Second)
		l.wantUsed("cluster", addrs(b, c)...)
		l.wantQuestions(addr(a), start, 10*time.Second, 20*time.Second, 30*time.Second) // again, not later and later
		l.wantWhy(addr(a), "ill for 35s, 3 connections in a row failed (connection refused), its back-off is 10s, a probe decides in 5s, "+
			"the last attempt to ask it failed here and says nothing of it: too many open files")
		if s := l.prober.Stats(); s.Unknown != 3 || s.Bad != 0 {
			t.Errorf("the stats are %+v", s)
		}
		l.set(nil, addr(a))
		l.wait(10 * time.Second)
		l.wantUsed("cluster", addrs(a, b, c)...)
	})
}

func TestStrangersAreNotJudged(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.connections(10, refused, addr(a))
		l.serve("cluster", addrs(a, b)...)
		l.connections(10, refused, addr(c), netip.AddrPort{})
		l.wantUsed("cluster", addrs(a, b)...)
		l.wantNews()
		if n := len(l.d.Status()); n != 2 {
			t.Errorf("%d endpoints are known", n)
		}
		if l.d.Out("nowhere", addr(a)) {
			t.Error("a set that is not there withholds something")
		}
	})
}
