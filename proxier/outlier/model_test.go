package outlier

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
)

// TestAnyHistory lets anything happen to a Service and looks at what always has to
// hold. A failure names the seed that leads to it.
func TestAnyHistory(t *testing.T) {
	for seed := range uint64(100) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { history(t, seed) }) {
			return
		}
	}
}

var sets = []string{"cluster", "local"}

func history(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 5))
	protocol := []string{"tcp", "udp"}[r.IntN(2)]
	settings := anySettings(r)
	withLab(t, protocol, settings, func(l *lab) {
		all := upTo(12)
		for range 200 {
			switch r.IntN(10) {
			case 0:
				members := all[:0:0]
				for _, e := range all {
					if r.IntN(3) > 0 {
						members = append(members, e)
					}
				}
				l.serve(sets[r.IntN(2)], members...)
			case 1:
				l.set([]error{nil, refused, silent, unix.EMFILE}[r.IntN(4)], all[r.IntN(len(all))])
			case 2:
				if r.IntN(5) == 0 {
					settings = anySettings(r)
					l.d.Set(settings)
				}
			case 3:
				l.wait(rand.N(time.Minute))
				if r.IntN(3) == 0 {
					l.upgrade(settings)
				}
			default:
				l.connect(sets[r.IntN(2)])
			}
			synctest.Wait() // what is asked at once has its answer
			for _, set := range sets {
				l.wantInvariants(set, settings.sane().Passive)
			}
		}
		l.set(nil, all...)
		l.wantAllBack(settings.sane())
	})
}

func anySettings(r *rand.Rand) Settings {
	second := func(n int) time.Duration { return time.Duration(1+r.IntN(n)) * time.Second }
	s := Settings{Passive: Passive{Failures: r.IntN(4), Base: second(20), Max: second(100), MaxEjected: r.Float64()}}
	if r.IntN(2) == 0 {
		s.Check = Check{Kind: CheckTCP, Interval: second(30), Timeout: second(5), Rise: r.IntN(4), Fall: r.IntN(4), Port: uint16(r.IntN(2) * 80)}
	}
	return s
}

// connect is what a connection does: it tries one endpoint after the other.
func (l *lab) connect(set string) {
	if l.pickers[set] == nil {
		return
	}
	var tried []netip.AddrPort
	for range 4 {
		pick, err := l.pickers[set].Pick(balancer.Request{Tried: tried})
		if err != nil {
			return
		}
		l.mu.Lock()
		err = l.down[pick.Endpoint.Addr]
		l.mu.Unlock()
		l.d.Report(pick.Endpoint.Addr, err)
		if err == nil {
			return
		}
		tried = append(tried, pick.Endpoint.Addr)
	}
}

func (l *lab) wantInvariants(name string, p Passive) {
	l.t.Helper()
	synctest.Wait() // until what connections have told is done
	members := l.members[name]
	if len(members) == 0 {
		return
	}
	withheld := len(members) - len(l.used(name))
	if withheld > int(p.MaxEjected*float64(len(members))) || withheld == len(members) {
		l.t.Fatalf("%d of %d are withheld, of at most %v", withheld, len(members), p.MaxEjected)
	}
	out := 0
	for _, s := range l.d.Status() {
		if slices.Contains(members, s.Endpoint) {
			if slices.Contains(s.Withheld, name) != l.d.Out(name, s.Endpoint) || !s.Out && s.Withheld != nil || s.Out == s.Since.IsZero() {
				l.t.Fatalf("the status is %+v", s)
			}
			if s.Out {
				out++
			}
			if s.Out && s.Next.IsZero() {
				l.t.Fatalf("nobody asks who is out: %+v", s)
			}
		}
	}
	if most := (&set{endpoints: make([]balancer.Endpoint, len(members))}).most(p); withheld != min(out, most) {
		l.t.Fatalf("%d are withheld, of %d that are out and %d that may be", withheld, out, most)
	}
	var tried []netip.AddrPort
	for range members {
		pick, err := l.pickers[name].Pick(balancer.Request{Tried: tried})
		if err != nil || slices.Contains(tried, pick.Endpoint.Addr) || !slices.Contains(members, pick.Endpoint.Addr) {
			l.t.Fatalf("after %v comes %v, %v; the members are %v", tried, pick.Endpoint.Addr, err, members)
		}
		tried = append(tried, pick.Endpoint.Addr)
	}
}

// wantAllBack waits for as long as it may take at most: the last back-off, and a
// probe that still failed just before; or Rise checks.
func (l *lab) wantAllBack(s Settings) {
	l.t.Helper()
	l.wait(max(s.Passive.Max+s.Passive.Base+2*probeTimeout, s.Passive.Max+time.Duration(s.Check.Rise+1)*s.Check.Interval*6/5+s.Check.Timeout))
	for _, status := range l.d.Status() {
		if status.Out {
			l.t.Fatalf("%s is well, and %s", status.Endpoint, status.Why)
		}
	}
	for _, set := range sets {
		if got := l.used(set); !slices.Equal(got, l.members[set]) && len(l.members[set]) > 0 {
			l.t.Fatalf("in use are %v of %v", got, l.members[set])
		}
	}
	for _, c := range l.news() {
		if c.Why == "" {
			l.t.Fatalf("a change without a reason: %+v", c)
		}
	}
}

// Everything at once, for the race detector: whoever asks sees members only, and
// in the end it is as if it had happened one after the other.
func TestAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, down: map[netip.AddrPort]error{}, pickers: map[string]balancer.Picker{}, members: map[string][]netip.AddrPort{}}
		l.prober = NewProber(l.dial)
		defer l.prober.Close()
		var telling sync.Mutex // of one at a time, in order
		out := map[netip.AddrPort]bool{}
		l.d = New(l.prober, "tcp", checked(), func(c Change) {
			if !telling.TryLock() {
				t.Error("two changes are told at once")
				return
			}
			defer telling.Unlock()
			if out[c.Endpoint] == c.Out {
				t.Errorf("%s changes to what it was: %+v", c.Endpoint, c)
			}
			out[c.Endpoint] = c.Out
			l.d.Report(c.Endpoint, refused) // it may
		})
		defer l.d.Close()
		all := upTo(20)
		l.serve("cluster", all...)
		l.serve("local", all[:5]...)
		pickers := []balancer.Picker{l.pickers["cluster"], l.pickers["local"]}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 2000 {
					pick, err := pickers[rand.IntN(2)].Pick(balancer.Request{Tried: all[:rand.IntN(4)]})
					if err != nil || !slices.Contains(all, pick.Endpoint.Addr) {
						t.Errorf("picked %v, %v", pick.Endpoint.Addr, err)
					}
					l.d.Report(pick.Endpoint.Addr, []error{nil, refused, refused, refused}[rand.IntN(4)])
					l.d.Out("cluster", pick.Endpoint.Addr)
					time.Sleep(rand.N(10 * time.Millisecond))
				}
			})
		}
		wg.Go(func() {
			for range 200 {
				l.set([]error{nil, refused, silent}[rand.IntN(3)], all[rand.IntN(len(all))])
				l.d.Picker("other", func(in []balancer.Endpoint) balancer.Picker { return lastResort.Picker(in) }, []balancer.Endpoint{{Addr: all[0]}})
				l.d.Status()
				s := checked()
				s.Check.Interval = time.Duration(1+rand.IntN(10)) * time.Second
				s.Check.Timeout = time.Second
				l.d.Set(s)
				time.Sleep(rand.N(100 * time.Millisecond))
			}
		})
		wg.Wait()
		l.set(nil, all...)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		l.wantUsed("cluster", all...)
		l.wantUsed("local", all[:5]...)
	})
}
