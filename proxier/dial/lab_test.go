package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// patience is far more than anything takes that is not waiting on purpose.
const patience = 20 * time.Second

// lab is a Service port with its endpoints, and all that is heard of them.
type lab struct {
	*testing.T
	poller   *tcp.Poller
	dialer   *Dialer
	affinity balancer.AffinityResult // of each pick
	rotate   bool                    // begin with another endpoint each time

	mu        sync.Mutex
	endpoints []netip.AddrPort
	picks     int
	outcomes  map[netip.AddrPort][]balancer.Outcome
	reports   map[netip.AddrPort][]error
	limits    map[netip.AddrPort]int // of connections; none: any number
	inside    map[netip.AddrPort]int
}

// newLab checks in the end that each pick was told its outcome, that each who was
// let in has left, and that nothing goes on in the background.
func newLab(t *testing.T, endpoints ...netip.AddrPort) *lab {
	t.Helper()
	return newLabWith(t, poller(t), endpoints...)
}

func newLabWith(t *testing.T, p *tcp.Poller, endpoints ...netip.AddrPort) *lab {
	t.Helper()
	l := &lab{T: t, dialer: New(0), poller: p, endpoints: endpoints,
		outcomes: map[netip.AddrPort][]balancer.Outcome{}, reports: map[netip.AddrPort][]error{},
		limits: map[netip.AddrPort]int{}, inside: map[netip.AddrPort]int{}}
	t.Cleanup(func() {
		l.dialer.Close()
		if l.dialer.background.kept != 0 {
			t.Errorf("%d attempts are still kept", l.dialer.background.kept)
		}
		told := 0
		for _, o := range l.outcomes {
			told += len(o)
		}
		if told != l.picks {
			t.Errorf("%d picks were told %d outcomes", l.picks, told)
		}
		for endpoint, n := range l.inside {
			if n != 0 {
				t.Errorf("%d are left at %s", n, endpoint)
			}
		}
	})
	return l
}

// newSilentLab has so many endpoints that do not answer, and needs no sockets: for
// [synctest].
func newSilentLab(t *testing.T, endpoints int) *lab {
	t.Helper()
	l := newLabWith(t, nil)
	for i := range endpoints {
		l.endpoints = append(l.endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}), 80))
	}
	l.dialer.connect = func(ctx context.Context, _ tcp.Target, limit time.Time) (*tcp.Conn, error) {
		ctx, cancel := context.WithDeadline(ctx, limit)
		defer cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return l
}

// Pick picks the endpoints in order.
func (l *lab) Pick(r balancer.Request) (balancer.Pick, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.endpoints)
	for i := range n {
		if l.rotate {
			i = (i + l.picks) % n
		}
		if addr := l.endpoints[i]; !slices.Contains(r.Tried, addr) {
			l.picks++
			var told atomic.Bool
			return balancer.Pick{Endpoint: balancer.Endpoint{Addr: addr, Pod: "shop/web"}, Affinity: l.affinity,
				Done: func(o balancer.Outcome) {
					l.mu.Lock()
					defer l.mu.Unlock()
					if told.Swap(true) {
						l.Errorf("a pick of %s is told its outcome twice", addr)
					}
					l.outcomes[addr] = append(l.outcomes[addr], o)
				}}, nil
		}
	}
	return balancer.Pick{}, balancer.ErrNoEndpoints
}

func (l *lab) admit(endpoint netip.AddrPort) (func(), bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit, ok := l.limits[endpoint]; ok && l.inside[endpoint] >= limit {
		return nil, false
	}
	l.inside[endpoint]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.inside[endpoint]--
	}, true
}

func (l *lab) report(endpoint netip.AddrPort, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reports[endpoint] = append(l.reports[endpoint], err)
}

func (l *lab) call(r Retry) Call {
	return Call{Client: netip.MustParseAddr("192.0.2.9"), Start: time.Now(), Poller: l.poller, Retry: r,
		Picker: func() balancer.Picker { return l }, Admit: l.admit, Report: l.report}
}

// dial searches, and ends at once what it gets.
func (l *lab) dial(r Retry) (Result, error) { return l.do(context.Background(), l.call(r)) }

func (l *lab) do(ctx context.Context, c Call) (Result, error) {
	l.Helper()
	r, err := l.dialer.Dial(ctx, c)
	if (err == nil) != (r.Conn != nil) {
		l.Fatalf("conn %v, error %v", r.Conn, err)
	}
	if err == nil {
		if peer, _ := unix.Getpeername(r.Conn.FD()); !reflect.DeepEqual(peer, tcp.Sockaddr(r.Pick.Endpoint.Addr)) {
			l.Errorf("connected to %v, the pick says %s", peer, r.Pick.Endpoint.Addr)
		}
		r.Conn.Reset()
		r.Leave()
		r.Pick.Done(balancer.Outcome{Connect: r.Connect})
	}
	return r, err
}

// heard is what was reported of an endpoint, one word each.
func (l *lab) heard(endpoint netip.AddrPort) (words []observe.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.reports[endpoint] {
		words = append(words, ResultOf(err))
	}
	return words
}

// told is what the picks of an endpoint heard, one word each: "" says nothing of it.
func (l *lab) told(endpoint netip.AddrPort) (words []observe.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.outcomes[endpoint] {
		if o == (balancer.Outcome{}) {
			words = append(words, "")
		} else {
			words = append(words, ResultOf(o.Err))
		}
	}
	return words
}

// wantHeard wants reports and outcomes to agree: nothing is said of an endpoint
// where want is empty.
func (l *lab) wantHeard(endpoint netip.AddrPort, want ...observe.Reason) {
	l.Helper()
	told := slices.DeleteFunc(l.told(endpoint), func(r observe.Reason) bool { return r == "" })
	if heard := l.heard(endpoint); !slices.Equal(heard, want) || !slices.Equal(told, want) {
		l.Errorf("of %s was reported %q, and its picks were told %q, want %q", endpoint, heard, told, want)
	}
}

func results(attempts []observe.Attempt) (list []observe.Reason) {
	for _, a := range attempts {
		list = append(list, a.Result)
	}
	return list
}

func (l *lab) wantResults(r Result, want ...observe.Reason) {
	l.Helper()
	if got := results(r.Attempts); !slices.Equal(got, want) {
		l.Errorf("attempts ended with %q, want %q", got, want)
	}
}

// backend is an endpoint that takes every connection and counts them.
type backend struct {
	addr  netip.AddrPort
	count atomic.Int64
	now   atomic.Int64 // open ones
}

func newBackend(t testing.TB) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b := &backend{addr: addrPort(ln.Addr())}
	var all sync.WaitGroup
	all.Go(func() { b.serve(ln, &all) })
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return b
}

func (b *backend) serve(ln net.Listener, all *sync.WaitGroup) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			continue // no files
		}
		b.count.Add(1)
		b.now.Add(1)
		all.Go(func() {
			defer b.now.Add(-1)
			defer c.Close()
			c.Read(make([]byte, 1)) // until it is closed
		})
	}
}

// freeAddr is an address on which nobody listens.
func freeAddr(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return addrPort(ln.Addr())
}

// hole is an endpoint that answers no SYN: its queue is full.
type hole struct {
	addr netip.AddrPort
	fd   int
}

func newHole(t testing.TB) *hole {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	bound, err := unix.Getsockname(fd)
	must(t, err)
	h := &hole{fd: fd, addr: netip.MustParseAddrPort("127.0.0.1:" + strconv.Itoa(bound.(*unix.SockaddrInet4).Port))}
	c, err := net.Dial("tcp", h.addr.String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	netns.Eventually(t, "a full queue", func() error { return full(fd) })
	return h
}

// full tells whether a listener drops further SYNs (sk_acceptq_is_full in
// include/net/sock.h of the kernel).
func full(listener int) error {
	// Of a listener Unacked is how many wait, and Sacked how many may (tcp_get_info in
	// net/ipv4/tcp.c).
	info, err := unix.GetsockoptTCPInfo(listener, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err == nil && info.Unacked <= info.Sacked {
		err = fmt.Errorf("%d wait, %d may", info.Unacked, info.Sacked)
	}
	return err
}

// open makes the endpoint answer from now on: SYNs that come again are answered,
// the first of them after a second.
func (h *hole) open(t testing.TB) {
	t.Helper()
	must(t, unix.Listen(h.fd, 100))
}

func blackhole(t testing.TB) netip.AddrPort { return newHole(t).addr }

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lab) eventually(what string, check func() error) {
	l.Helper()
	netns.Eventually(l, what, check)
}

// settled waits until as many reports of an endpoint were heard.
func (l *lab) settled(endpoint netip.AddrPort, reports int) {
	l.Helper()
	l.eventually("reports", func() error {
		// The pick is told after that.
		if n := min(len(l.heard(endpoint)), len(l.told(endpoint))); n < reports {
			return fmt.Errorf("%d of %d", n, reports)
		}
		return nil
	})
}

// poller watches the connections of a test, as long as that lasts.
func poller(t testing.TB) *tcp.Poller {
	p, err := tcp.NewPollers(runtime.GOMAXPROCS(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p.For(nil)
}
