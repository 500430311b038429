package outlier

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// refused is how a connection to an endpoint fails whose process has ended.
var refused error = unix.ECONNREFUSED

// passive are settings by which three failures eject, of three endpoints or more.
var passive = Settings{Passive: Passive{Failures: 3, Base: 10 * time.Second, Max: time.Minute, MaxEjected: 0.5}}

// checked are settings with a check besides.
func checked() Settings {
	s := passive
	s.Check = Check{Kind: CheckTCP, Interval: 10 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}
	return s
}

// addr is the address of the nth endpoint.
func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 80)
}

func addrs(ns ...int) (list []netip.AddrPort) {
	for _, n := range ns {
		list = append(list, addr(n))
	}
	return list
}

// lab is one Detector, its Prober, and endpoints that exist in memory only. Time in
// it passes when everybody waits.
type lab struct {
	t       *testing.T
	prober  *Prober
	d       *Detector
	pickers map[string]balancer.Picker
	members map[string][]netip.AddrPort

	mu      sync.Mutex
	down    map[netip.AddrPort]error // why they do not answer
	asked   []question
	changes []Change
	builds  int
	running int // connection attempts
	most    int // of them at once
}

type question struct {
	to      netip.AddrPort
	at      time.Time
	network string
}

// silent is how one fails from whose host nothing is heard.
var silent error = unix.ETIMEDOUT

func withLab(t *testing.T, protocol string, s Settings, f func(*lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, down: map[netip.AddrPort]error{}, pickers: map[string]balancer.Picker{}, members: map[string][]netip.AddrPort{}}
		l.prober = NewProber(l.dial)
		l.d = New(l.prober, protocol, s, l.changed)
		defer l.prober.Close()
		defer func() { l.d.Close() }()
		f(l)
	})
}

func (l *lab) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	l.mu.Lock()
	err := l.down[to]
	l.asked = append(l.asked, question{to, time.Now(), network})
	l.running++
	l.most = max(l.most, l.running)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.running--
		l.mu.Unlock()
	}()
	switch {
	case err == silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case err != nil:
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	conn, _ := net.Pipe()
	return conn, nil
}

func (l *lab) changed(c Change) {
	l.d.Out("cluster", c.Endpoint) // it may ask
	if len(l.members["cluster"]) < 10 {
		l.d.Status()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, c)
}

// serve makes these the endpoints of a set.
func (l *lab) serve(set string, members ...netip.AddrPort) {
	policy, err := balancer.New("round-robin")
	if err != nil {
		l.t.Fatal(err)
	}
	var endpoints []balancer.Endpoint
	for _, m := range members {
		endpoints = append(endpoints, balancer.Endpoint{Addr: m, Pod: "pod-" + m.String()})
	}
	l.members[set] = members
	l.pickers[set] = l.d.Picker(set, func(in []balancer.Endpoint) balancer.Picker {
		l.mu.Lock()
		l.builds++
		l.mu.Unlock()
		return policy.Picker(in)
	}, endpoints)
}

// set makes the endpoints fail, or with nil answer.
func (l *lab) set(err error, endpoints ...netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range endpoints {
		l.down[e] = err
	}
}

// connections reports that so many had this outcome, and waits for what follows.
func (l *lab) connections(n int, err error, endpoints ...netip.AddrPort) {
	for range n {
		for _, e := range endpoints {
			l.d.Report(e, err)
		}
	}
	synctest.Wait() // until what follows from it is done
}

// wait lets time pass, and all that is due then happen.
func (l *lab) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// used are the endpoints that new connections go to.
func (l *lab) used(set string) []netip.AddrPort {
	l.t.Helper()
	got := map[netip.AddrPort]bool{}
	for range 3 * len(l.members[set]) {
		pick, err := l.pickers[set].Pick(balancer.Request{})
		if err != nil {
			l.t.Fatal(err)
		}
		if pick.Endpoint.Pod != "pod-"+pick.Endpoint.Addr.String() {
			l.t.Fatalf("picked %+v", pick.Endpoint)
		}
		got[pick.Endpoint.Addr] = true
	}
	var list []netip.AddrPort
	for _, m := range l.members[set] {
		if got[m] == l.d.Out(set, m) {
			l.t.Fatalf("%s is picked: %t, and out: %t", m, got[m], l.d.Out(set, m))
		}
		if got[m] {
			list = append(list, m)
		}
		delete(got, m)
	}
	if len(got) > 0 {
		l.t.Fatalf("picked strangers: %v", got)
	}
	return list
}

func (l *lab) wantUsed(set string, want ...netip.AddrPort) {
	l.t.Helper()
	if got := l.used(set); !slices.Equal(got, want) {
		l.t.Errorf("in use of %s are %v; want %v", set, got, want)
		for _, s := range l.d.Status() {
			l.t.Logf("%s %s", s.Endpoint, s.Why)
		}
	}
}

// wantWhy wants the sentence about an endpoint.
func (l *lab) wantWhy(e netip.AddrPort, want string) {
	l.t.Helper()
	for _, s := range l.d.Status() {
		if s.Endpoint == e {
			if s.Why != want {
				l.t.Errorf("of %s it says\n %s; want\n %s", e, s.Why, want)
			}
			return
		}
	}
	l.t.Errorf("nothing is known of %s", e)
}

// news are the changes since it was asked last.
func (l *lab) news() []Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.changes
	l.changes = nil
	return news
}

func (l *lab) wantNews(want ...Change) {
	l.t.Helper()
	if got := l.news(); !slices.Equal(got, want) {
		l.t.Errorf("the news are\n %+v; want\n %+v", got, want)
	}
}

// questions are when an endpoint was asked since the last call, from start.
func (l *lab) questions(e netip.AddrPort, start time.Time) (at []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.asked {
		if q.to == e {
			at = append(at, q.at.Sub(start))
		}
	}
	l.asked = slices.DeleteFunc(l.asked, func(q question) bool { return q.to == e })
	return at
}

func (l *lab) wantQuestions(e netip.AddrPort, start time.Time, want ...time.Duration) {
	l.t.Helper()
	if got := l.questions(e, start); !slices.Equal(got, want) {
		l.t.Errorf("%s was asked at %v; want %v", e, got, want)
	}
}

func upTo(n int) (list []netip.AddrPort) {
	for i := range n {
		list = append(list, addr(i+1))
	}
	return list
}
