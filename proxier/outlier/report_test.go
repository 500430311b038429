package outlier

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// slow takes a minute for everything once it is on, and knows how many wait for it.
type slow struct {
	on            atomic.Bool
	running, most atomic.Int32
}

func (s *slow) do() {
	if !s.on.Load() {
		return
	}
	n := s.running.Add(1)
	s.most.Store(max(n, s.most.Load()))
	time.Sleep(time.Minute)
	s.running.Add(-1)
}

// A poller that reports has other connections to serve: it waits neither for a policy nor
// for a log that nobody reads. What it reported still takes effect, and Close waits for that.
func TestAReportWaitsForNobody(t *testing.T) {
	for name, where := range map[string]func(*lab, *slow){
		"build": func(l *lab, s *slow) {
			l.pickers["cluster"] = l.d.Picker("cluster", func(in []balancer.Endpoint) balancer.Picker {
				s.do()
				return lastResort.Picker(in)
			}, []balancer.Endpoint{{Addr: addr(a)}, {Addr: addr(b)}, {Addr: addr(c)}, {Addr: addr(d)}})
		},
		"changed": func(l *lab, s *slow) {
			l.serve("cluster", addrs(a, b, c, d)...)
			tell := l.d.changed
			l.d.changed = func(c Change) {
				s.do()
				tell(c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			settings := passive
			settings.Passive.Base, settings.Passive.Max = time.Hour, time.Hour
			withLab(t, "tcp", settings, func(l *lab) {
				s := &slow{}
				where(l, s)
				s.on.Store(true)
				start, goroutines := time.Now(), runtime.NumGoroutine()
				for range 100 { // out and in again, while what follows from the first is slow
					for _, e := range addrs(a, b) {
						for range 3 {
							l.d.Report(e, refused)
						}
						l.d.Report(e, nil)
						for range 3 {
							l.d.Report(e, refused)
						}
					}
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("the reports took %v", took)
				}
				if n := runtime.NumGoroutine() - goroutines; n > 20 {
					t.Errorf("there are %d goroutines more", n)
				}
				synctest.Wait()
				if n := s.running.Load(); n != 1 {
					t.Errorf("%d goroutines are at work", n)
				}
				l.d.Close()
				if n := s.running.Load(); n != 0 {
					t.Errorf("Close did not wait for %d", n)
				}
				if n := s.most.Load(); n != 1 {
					t.Errorf("%d goroutines were at work at once", n)
				}
				if !l.d.Out("cluster", addr(a)) || !l.d.Out("cluster", addr(b)) || l.d.Out("cluster", addr(c)) {
					t.Error("what was reported has no effect")
				}
			})
		})
	}
}

// What is reported while the last report takes effect takes effect, too.
func TestAReportDuringTheEffectOfAnother(t *testing.T) {
	withLab(t, "tcp", passive, func(l *lab) {
		l.serve("cluster", addrs(a, b, c, d)...)
		tell := l.d.changed
		l.d.changed = func(change Change) {
			time.Sleep(time.Second)
			tell(change)
		}
		l.connections(3, refused, addr(a))
		for range 3 {
			l.d.Report(addr(b), refused) // while that of a is told
		}
		l.wait(5 * time.Second)
		l.wantUsed("cluster", addrs(c, d)...)
		if news := l.news(); len(news) != 2 || news[0].Endpoint != addr(a) || news[1].Endpoint != addr(b) {
			t.Errorf("the news are %+v", news)
		}
	})
}
