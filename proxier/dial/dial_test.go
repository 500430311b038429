package dial

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// unreachable is an address that the namespace of the tests has no route to.
var unreachable = netip.MustParseAddrPort("198.51.100.1:80")

func standard() Retry { return Retry{Attempts: 3, Timeout: time.Second, Total: patience, On: Connect} }

func TestFirstEndpointAnswers(t *testing.T) {
	b := newBackend(t)
	l := newLab(t, b.addr, freeAddr(t))
	r, err := l.dial(standard())
	must(t, err)
	l.wantResults(r, observe.OK)
	l.wantHeard(b.addr, observe.OK)
	if r.Connect <= 0 || r.Connect != r.Attempts[0].Duration || r.Pick.Endpoint.Addr != b.addr || r.BudgetSpent {
		t.Errorf("%+v", r)
	}
}

func TestAttemptsGoToDistinctEndpoints(t *testing.T) {
	l := newLab(t, freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t))
	r, err := l.dial(standard())
	l.wantResults(r, observe.BackendRefused, observe.BackendRefused, observe.BackendRefused)
	for i, a := range r.Attempts {
		if a.Backend != l.endpoints[i] || a.Errno != "ECONNREFUSED" || a.Pod != "shop/web" {
			t.Errorf("attempt %d: %+v", i, a)
		}
		l.wantHeard(a.Backend, observe.BackendRefused)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), l.endpoints[2].String()) {
		t.Error(err)
	}
	if got := Outcome(r.Attempts, err); got != observe.RetriesExhausted {
		t.Errorf("outcome %s", got)
	}
}

func TestNoEndpointIsLeft(t *testing.T) {
	l := newLab(t, freeAddr(t))
	r, err := l.dial(standard())
	if l.wantResults(r, observe.BackendRefused); Outcome(r.Attempts, err) != observe.BackendRefused {
		t.Error(err)
	}
	l = newLab(t)
	r, err = l.dial(standard())
	if l.wantResults(r); Outcome(r.Attempts, err) != observe.NoEndpoints || !errors.Is(err, balancer.ErrNoEndpoints) {
		t.Error(err)
	}
}

// Each kind of failure leads to another endpoint if it is to, and only then.
func TestWhatIsRetried(t *testing.T) {
	for name, failure := range map[string]struct {
		kind     Failures
		endpoint netip.AddrPort
		result   observe.Reason
	}{
		"refused":     {Refused, freeAddr(t), observe.BackendRefused},
		"unreachable": {Unreachable, unreachable, observe.BackendUnreachable},
		"timeout":     {Timeout, blackhole(t), observe.ConnectTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			for _, on := range []Failures{failure.kind, Connect &^ failure.kind, 0} {
				for _, hedge := range []time.Duration{0, patience} {
					b := newBackend(t)
					l := newLab(t, failure.endpoint, b.addr)
					hasty(l.dialer, failure.endpoint)
					r, err := l.dial(Retry{Attempts: 3, Timeout: patience, Total: patience, On: on, Hedge: hedge})
					if on == failure.kind {
						must(t, err)
						l.wantResults(r, failure.result, observe.OK)
						l.wantHeard(b.addr, observe.OK)
					} else {
						l.wantResults(r, failure.result)
						l.wantHeard(b.addr)
						if got := Outcome(r.Attempts, err); got != failure.result {
							t.Errorf("outcome %s of %v", got, err)
						}
					}
					l.wantHeard(failure.endpoint, failure.result)
				}
			}
		})
	}
}

// hasty ends attempts to one endpoint soon, and leaves others all the time that a
// busy machine takes.
func hasty(d *Dialer, endpoint netip.AddrPort) {
	inEarnest := d.connect
	d.connect = func(ctx context.Context, t tcp.Target, limit time.Time) (*tcp.Conn, error) {
		if t.Addr == endpoint {
			limit = time.Now().Add(100 * time.Millisecond)
		}
		return inEarnest(ctx, t, limit)
	}
}

// The last attempt has less time than it needs to tell silence from slowness.
func TestTotalTimeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newSilentLab(t, 3)
		const total = 600 * time.Millisecond
		start := time.Now()
		r, err := l.dial(Retry{Attempts: 4, Timeout: 400 * time.Millisecond, Total: total, On: Connect})
		if took := time.Since(start); err == nil || took != total {
			t.Errorf("took %s, %v", took, err)
		}
		l.wantResults(r, observe.ConnectTimeout, observe.ConnectTimeout)
		l.wantHeard(l.endpoints[0], observe.ConnectTimeout)
		l.wantHeard(l.endpoints[1])
	})
}

// A first attempt may have all of the time.
func TestTimeoutIsAsLongAsTotal(t *testing.T) {
	for _, timeout := range []time.Duration{100 * time.Millisecond, time.Hour} {
		l := newLab(t, blackhole(t), blackhole(t))
		r, _ := l.dial(Retry{Attempts: 4, Timeout: timeout, Total: 100 * time.Millisecond, On: Connect})
		l.wantResults(r, observe.ConnectTimeout)
		l.wantHeard(l.endpoints[0], observe.ConnectTimeout)
	}
}

// wayward is a policy with a fault.
type wayward struct{ *lab }

func (w wayward) Pick(r balancer.Request) (balancer.Pick, error) {
	r.Tried = nil
	return w.lab.Pick(r)
}

func TestPolicyWithAFault(t *testing.T) {
	l := newLab(t, freeAddr(t))
	l.limits[l.endpoints[0]] = 0
	c := l.call(standard())
	c.Picker = func() balancer.Picker { return wayward{l} }
	r, err := l.do(t.Context(), c)
	if l.wantResults(r); Outcome(r.Attempts, err) != observe.InternalError || !strings.Contains(err.Error(), "a fault of the policy") {
		t.Error(err)
	}
}

// The endpoints change while the search goes on.
func TestPickerIsAskedAnew(t *testing.T) {
	b := newBackend(t)
	old, young := newLab(t, freeAddr(t), freeAddr(t)), newLab(t, b.addr)
	c, asked := old.call(standard()), 0
	c.Picker = func() balancer.Picker {
		if asked++; asked == 1 {
			return old
		}
		return young
	}
	r, err := old.do(t.Context(), c)
	must(t, err)
	old.wantResults(r, observe.BackendRefused, observe.OK)
}

func TestFullEndpointsArePassedOver(t *testing.T) {
	full, b := newBackend(t), newBackend(t)
	l := newLab(t, full.addr, freeAddr(t), b.addr)
	l.limits[full.addr] = 0
	retry := standard()
	retry.Attempts = 2
	r, err := l.dial(retry)
	must(t, err)
	l.wantResults(r, observe.BackendRefused, observe.OK)
	l.wantHeard(full.addr)
	if r.Pick.Endpoint.Addr != b.addr || full.count.Load() != 0 {
		t.Errorf("served by %s", r.Pick.Endpoint.Addr)
	}
}

func TestEveryEndpointIsFull(t *testing.T) {
	l := newLab(t, freeAddr(t), freeAddr(t))
	for _, e := range l.endpoints {
		l.limits[e] = 0
	}
	r, err := l.dial(standard())
	if l.wantResults(r); !errors.Is(err, ErrEndpointsFull) || Outcome(r.Attempts, err) != observe.LimitBackend {
		t.Error(err)
	}
	for i := range 1000 {
		e := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
		l.endpoints, l.limits[e] = append(l.endpoints, e), 0
	}
	before := l.picks
	_, err = l.dial(standard())
	if picks := l.picks - before; !errors.Is(err, ErrEndpointsFull) || picks != maxPassedOver {
		t.Errorf("%d picks, %v", picks, err)
	}
	l.limits[l.endpoints[1]] = 1 // it is down, but not full
	r, err = l.dial(standard())
	if l.wantResults(r, observe.BackendRefused); Outcome(r.Attempts, err) != observe.BackendRefused {
		t.Error(err)
	}
}

// What a connection has tried before is not tried again, counts, and has taken the
// attempt that is free.
func TestSearchGoesOn(t *testing.T) {
	b := newBackend(t)
	l := newLab(t, b.addr, freeAddr(t), b.addr)
	c := l.call(standard())
	c.Exclude = []netip.AddrPort{b.addr}
	r, err := l.do(t.Context(), c)
	if l.wantResults(r, observe.BackendRefused); err == nil {
		t.Error("it is tried again")
	}
	c.Budget = NewTokens(Budget{Share: 1})
	drain(c.Budget) // and the connection has had its share
	r, err = l.do(t.Context(), c)
	if l.wantResults(r); !errors.Is(err, ErrBudgetSpent) || !r.BudgetSpent || Outcome(r.Attempts, err) != observe.RetriesExhausted {
		t.Errorf("%+v, %v", r, err)
	}
	c.Exclude = append(c.Exclude, unreachable, unreachable)
	r, err = l.do(t.Context(), c)
	if l.wantResults(r); !errors.Is(err, ErrNoAttemptLeft) || Outcome(r.Attempts, err) != observe.RetriesExhausted {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSearchIsCancelled(t *testing.T) {
	for name, hedge := range map[string]time.Duration{"one by one": 0, "hedged": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, blackhole(t), blackhole(t))
			ctx, cancel := context.WithCancel(t.Context())
			c := l.call(Retry{Attempts: 4, Timeout: patience, Total: patience, On: Connect, Hedge: hedge})
			picks := 1
			if hedge > 0 {
				picks = 2
			}
			go func() {
				defer cancel()
				l.eventually("attempts", func() error {
					l.mu.Lock()
					defer l.mu.Unlock()
					if l.picks < picks {
						return errors.New("too few")
					}
					return nil
				})
			}()
			start := time.Now()
			r, err := l.do(ctx, c)
			if took := time.Since(start); took > patience/2 || !errors.Is(err, context.Canceled) {
				t.Errorf("took %s, %v", took, err)
			}
			for _, a := range r.Attempts {
				if a.Result != observe.Abandoned {
					t.Errorf("%+v", a)
				}
			}
			if len(r.Attempts) != picks || Outcome(r.Attempts, err) != observe.Shutdown {
				t.Errorf("%d attempts, %v", len(r.Attempts), err)
			}
			l.wantHeard(l.endpoints[0])
			l.wantHeard(l.endpoints[1])
		})
	}
}

func TestSourceAndMark(t *testing.T) {
	b := newBackend(t)
	l := newLab(t, b.addr)
	l.dialer.mark = 0x4000
	from := netip.MustParseAddr("127.0.0.77")
	c := l.call(standard())
	c.From = func(balancer.Endpoint) netip.Addr { return from }
	r, err := l.dialer.Dial(t.Context(), c)
	must(t, err)
	defer r.Conn.Close()
	defer r.Leave()
	defer r.Pick.Done(balancer.Outcome{})
	if got := r.Conn.LocalAddr().Addr(); got != from || r.From != from {
		t.Errorf("from %s, told %s", got, r.From)
	}
	if mark, err := unix.GetsockoptInt(r.Conn.FD(), unix.SOL_SOCKET, unix.SO_MARK); err != nil || mark != 0x4000 {
		t.Errorf("mark %#x, %v", mark, err)
	}
}

// EPERM means a firewall when connecting. In preparing a socket it is our own
// fault, and no endpoint's.
func TestSocketsCannotBePrepared(t *testing.T) {
	b := newBackend(t)
	l := newLab(t, b.addr, b.addr)
	l.dialer.mark = 1
	var all sync.WaitGroup
	all.Go(func() {
		runtime.LockOSThread() // and let it end with the goroutine
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			t.Error(err)
		}
		r, err := l.dial(standard())
		l.wantResults(r, observe.InternalError)
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "SO_MARK") || Outcome(r.Attempts, err) != observe.InternalError {
			t.Error(err)
		}
	})
	all.Wait()
	l.wantHeard(b.addr)
}

func TestAffinityOfTheAttempts(t *testing.T) {
	for _, c := range []struct{ first, second, want balancer.AffinityResult }{
		{balancer.AffinityHit, balancer.AffinityBroken, balancer.AffinityBroken},
		{balancer.AffinityNew, balancer.AffinityBroken, balancer.AffinityNew},
		{balancer.AffinityNone, balancer.AffinityNone, balancer.AffinityNone},
	} {
		l := newLab(t, freeAddr(t), newBackend(t).addr)
		call := l.call(standard())
		l.affinity = c.first
		call.Report = func(netip.AddrPort, error) { l.affinity = c.second }
		r, err := l.do(t.Context(), call)
		if must(t, err); r.Affinity != c.want {
			t.Errorf("%q then %q: %q, want %q", c.first, c.second, r.Affinity, c.want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	files, refused, ports := observe.OutOfFiles, observe.BackendRefused, observe.OutOfPorts
	for _, c := range []struct {
		err      error
		attempts []observe.Reason
		want     observe.Reason
	}{
		{unix.ECONNREFUSED, []observe.Reason{refused}, refused},
		{unix.ECONNREFUSED, []observe.Reason{files, refused}, refused},
		{unix.ECONNREFUSED, []observe.Reason{refused, files, refused}, observe.RetriesExhausted},
		{unix.EADDRNOTAVAIL, []observe.Reason{refused, ports}, observe.RetriesExhausted},
		{unix.EMFILE, []observe.Reason{refused, refused, files}, files},
		{unix.EINVAL, []observe.Reason{refused, observe.InternalError}, observe.InternalError},
		{unix.ETIMEDOUT, []observe.Reason{observe.ConnectTimeout}, observe.ConnectTimeout},
		{balancer.ErrNoEndpoints, []observe.Reason{files}, observe.NoEndpoints},
		{context.Canceled, []observe.Reason{refused, refused}, observe.Shutdown},
	} {
		var attempts []observe.Attempt
		for _, r := range c.attempts {
			attempts = append(attempts, observe.Attempt{Result: r})
		}
		if got := Outcome(attempts, c.err); got != c.want {
			t.Errorf("%v after %s: %s, want %s", c.err, c.attempts, got, c.want)
		}
	}
}

// All endpoints are gone while clients come.
func TestOutageIsNotMultiplied(t *testing.T) {
	const connections, share, perSecond = 1000, 0.2, 5
	l := newLab(t, freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t))
	budget := NewTokens(Budget{Share: share, PerSecond: perSecond})
	var attempts, denied atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for range 10 {
		all.Go(func() {
			for range connections / 10 {
				c := l.call(Retry{Attempts: 4, Timeout: time.Second, Total: patience, On: Connect})
				c.Budget = budget
				r, err := l.do(context.Background(), c)
				attempts.Add(int64(len(r.Attempts)))
				if r.BudgetSpent {
					denied.Add(1)
				}
				if len(r.Attempts) == 1 && Outcome(r.Attempts, err) != observe.BackendRefused {
					t.Errorf("ends with %v", err)
				}
			}
		})
	}
	all.Wait()
	most := connections*(1+share) + perSecond*(memory+time.Since(start)).Seconds()
	least := connections * (1 + share)
	if n := float64(attempts.Load()); n > most+1 || n < least-1 || denied.Load() < connections/2 {
		t.Errorf("%.0f attempts, want %.0f to %.0f; %d had none left", n, least, most, denied.Load())
	}
	t.Logf("%d connections made %d attempts, at most 4 each; %d were denied another", connections, attempts.Load(), denied.Load())
}
