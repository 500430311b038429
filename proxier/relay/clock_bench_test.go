package relay

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// What a connection costs that is over before anything is due: the clock, against what it
// is there instead of.
func BenchmarkShortConnection(b *testing.B) {
	b.Run("clock", func(b *testing.B) {
		c := NewClock()
		defer c.Close()
		r := &Relay{clock: c, limits: &Limits{HalfClose: time.Hour, Peer: tcp.Liveness{KeepAlive: tcp.KeepAlive{Idle: 30 * time.Second}}}}
		b.ReportAllocs()
		for b.Loop() {
			r.born = now().tick() + 1
			r.arm(r.born)
			r.watch() // its FIN
			c.forget(r)
		}
	})
	b.Run("timer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var timer *time.Timer
			timer = time.AfterFunc(time.Hour, func() { timer.Stop() })
			timer.Stop()
		}
	})
	b.Run("setsockopt", func(b *testing.B) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		l := tcp.Liveness{KeepAlive: tcp.KeepAlive{Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4}}
		b.ReportAllocs()
		for b.Loop() {
			l.Set(fd)
		}
	})
}

// BenchmarkManyRelays has 100,000 relays in the clock, all with a limit for silence, and
// takes what the clock does in one second: with a limit of an hour, and of ten seconds.
func BenchmarkManyRelays(b *testing.B) {
	for _, idle := range []time.Duration{time.Hour, 10 * time.Second} {
		b.Run(idle.String(), func(b *testing.B) {
			c := still(1000)
			relays, limits := make([]Relay, 100_000), &Limits{Idle: idle}
			for i := range relays {
				r := &relays[i]
				r.limits, r.clock, r.open = limits, c, 2
				r.since = 1000 + tick(i)%ticks(idle)
				c.call(r, r.since+ticks(idle/looks))
			}
			b.ReportAllocs()
			called := 0
			for b.Loop() {
				for range ticks(time.Second) {
					c.gather(c.now + 1)
					for c.due != nil {
						r := c.due
						c.take(r)
						r.mu.Lock()
						r.taken++ // something was moved
						if r.lookAround(c.now) {
							b.Fatal("it was overdue")
						}
						r.mu.Unlock()
						called++
					}
				}
			}
			b.ReportMetric(float64(called)/float64(b.N), "looks/op")
		})
	}
}
