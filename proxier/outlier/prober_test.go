package outlier

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Many thousands of checks meet silence: there is never more than the room for
// them, nobody starves, and what is well meanwhile is found out too.
func TestLateChecksAreCountedAndBounded(t *testing.T) {
	withLab(t, "tcp", checked(), func(l *lab) {
		members := upTo(1500)
		l.serve("cluster", members...)
		l.set(silent, members...)
		l.set(nil, addr(1))
		l.wait(5 * time.Minute)
		s := l.prober.Stats()
		if l.most != maxRunning || s.Running != maxRunning {
			t.Errorf("%d ran at once, %d do", l.most, s.Running)
		}
		if s.Waiting+s.Running != len(members) {
			t.Errorf("%d wait and %d run, for %d endpoints", s.Waiting, s.Running, len(members))
		}
		// 32 a second of 150 that were wanted.
		if s.Bad < 9000 || s.Bad > 9800 || s.Late < s.Bad*9/10 {
			t.Errorf("the stats are %+v", s)
		}
		for _, m := range members {
			if n := len(l.questions(m, time.Now())); n < 5 || n > 8 {
				t.Fatalf("%s was asked %d times", m, n)
			}
		}
		if n := len(l.used("cluster")); n != 750 {
			t.Errorf("%d are in use", n)
		}
		l.set(nil, members...)
		l.wait(40 * time.Second)
		l.wantUsed("cluster", members...)
		late := l.prober.Stats().Late
		l.wait(time.Minute)
		if now := l.prober.Stats().Late; now != late {
			t.Errorf("%d checks are late although all answer", now-late)
		}
	})
}

// A check of an endpoint that leaves ends, and counts for nothing.
func TestTheCheckOfWhoLeavesIsCancelled(t *testing.T) {
	s := checked()
	s.Check.Fall, s.Check.Interval, s.Check.Timeout = 1, time.Hour, 30*time.Minute
	withLab(t, "tcp", s, func(l *lab) {
		l.set(silent, addrs(a, b, c)...)
		l.serve("cluster", addrs(a, b, c)...)
		for l.prober.Stats().Running == 0 {
			l.wait(time.Second)
		}
		l.serve("cluster")
		l.wait(0)
		if s := l.prober.Stats(); s != (Stats{Unknown: s.Unknown}) || s.Unknown == 0 || l.running != 0 {
			t.Errorf("the stats are %+v", s)
		}
		l.wantNews()
	})
}

// Its outcome may have been on the way already.
func TestALateOutcomeCountsForNothing(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		l.connections(3, refused, addr(a))
		e := l.d.endpoints[addr(a)]
		gone := e.task
		l.serve("cluster", addrs(b, c)...)
		l.wait(time.Minute)
		l.serve("cluster", addrs(a, b, c)...)
		l.d.asked(e, gone, time.Now(), nil)
		l.wantUsed("cluster", addrs(b, c)...)
	})
}

func TestCloseCancelsAndWaits(t *testing.T) {
	for _, closeAll := range []func(*lab){
		func(l *lab) { l.d.Close() },
		func(l *lab) { l.prober.Close() },
	} {
		withLab(t, "tcp", checked(), func(l *lab) {
			l.set(silent, upTo(100)...)
			l.serve("cluster", upTo(100)...)
			for l.prober.Stats().Running < 10 {
				l.wait(10 * time.Millisecond)
			}
			start := time.Now()
			closeAll(l)
			l.mu.Lock()
			running := l.running
			l.mu.Unlock()
			if took := time.Since(start); running != 0 || took != 0 {
				t.Errorf("%d run on, after %s", running, took)
			}
			l.news()
			asked := len(l.asked)
			l.connections(3, refused, addr(1))
			l.serve("cluster", upTo(50)...)
			l.wait(time.Hour)
			if len(l.asked) != asked {
				t.Errorf("%d were asked after the end", len(l.asked)-asked)
			}
		})
	}
}

// Detectors share the room but nothing else.
func TestOneProberForAll(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c)...)
		other := New(l.prober, "tcp", checked(), nil)
		defer other.Close()
		l.d.Close()
		l.set(refused, addr(a))
		picker := l.d // keeps the first one's sets apart
		l.d = other
		l.serve("cluster", addrs(a, b, c)...)
		l.wait(34 * time.Second)
		l.wantUsed("cluster", addrs(b, c)...)
		if picker.Out("cluster", addr(a)) {
			t.Error("it is out for another Service too")
		}
	})
}

// A Prober that is not told how connects as net.Dialer does.
func TestThePlainDialer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p := NewProber(nil)
	defer p.Close()
	if err := probe.ask(context.Background(), p.dial, listener.Addr().(*net.TCPAddr).AddrPort(), 0); err != nil {
		t.Error(err)
	}
}

func TestAProberWithoutWorkRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProber(nil)
		start := time.Now()
		time.Sleep(time.Hour)
		p.Close()
		if time.Since(start) != time.Hour {
			t.Error("it held the clock")
		}
	})
}
