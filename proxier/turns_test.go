package proxier

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

// script is a policy with an order of its own, and a hook for tests.
type script struct {
	done  func() // by each Done; nil: nothing
	picks atomic.Int64

	mu    sync.Mutex
	order []netip.AddrPort
	asked func(balancer.Request) // before each pick; nil: nothing
	lasts map[netip.AddrPort]int // picks without a Done
}

// when has something happen before each pick.
func (p *script) when(asked func(balancer.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = asked
}

func (p *script) Picker([]balancer.Endpoint) balancer.Picker { return p }

func (p *script) Pick(r balancer.Request) (balancer.Pick, error) {
	p.picks.Add(1)
	p.mu.Lock()
	asked, order := p.asked, p.order
	p.mu.Unlock()
	if asked != nil {
		asked(r)
	}
	for _, addr := range order {
		if !slices.Contains(r.Tried, addr) {
			p.count(addr, 1)
			return balancer.Pick{Endpoint: balancer.Endpoint{Addr: addr}, Done: func(balancer.Outcome) {
				p.count(addr, -1)
				if p.done != nil {
					p.done()
				}
			}}, nil
		}
	}
	return balancer.Pick{}, balancer.ErrNoEndpoints
}

func (p *script) count(addr netip.AddrPort, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lasts == nil {
		p.lasts = map[netip.AddrPort]int{}
	}
	p.lasts[addr] += n
}

// wantAllDone says that each pick has had its one Done.
func (p *script) wantAllDone(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, n := range p.lasts {
		if n != 0 {
			t.Errorf("%s has %d picks more than Dones", addr, n)
		}
	}
}

func (p *script) reorder(order ...netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order = order
}

// is makes it the balancer of all Services.
func (p *script) is(c *Config) {
	c.Service.Balancer, c.Policies = "script", map[string]func() balancer.Policy{"script": func() balancer.Policy { return p }}
}

func echoes(c net.Conn) { io.Copy(c, c) }

// crash ends a connection as soon as it has got something.
func crash(c net.Conn) {
	c.Read(make([]byte, 1))
	c.(*net.TCPConn).SetLinger(0)
}

// metric is the sum of the series with these labels, given as name, value, and
// whether there are any.
func (s *scene) metric(name string, labels ...string) (sum float64, any bool) {
	s.t.Helper()
	families, err := s.proxier.cfg.Registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			has := map[string]string{}
			for _, l := range m.GetLabel() {
				has[l.GetName()] = l.GetValue()
			}
			matches := f.GetName() == name
			for i := 0; i < len(labels); i += 2 {
				matches = matches && has[labels[i]] == labels[i+1]
			}
			if matches {
				sum, any = sum+m.GetGauge().GetValue()+m.GetCounter().GetValue(), true
			}
		}
	}
	return sum, any
}

func (s *scene) becomesMetric(want float64, name string, labels ...string) {
	s.t.Helper()
	s.eventually(name, func() error {
		if got, any := s.metric(name, labels...); got != want || !any {
			return fmt.Errorf("it is %g (%v), want %g", got, any, want)
		}
		return nil
	})
}

// speak has a client say something that is to be echoed.
func speak(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	return c
}

func wantEcho(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("no echo: %v", err)
	}
}

func TestWaitingConnectionsAreCounted(t *testing.T) {
	for _, wish := range []string{"max-connections=1", "max-connections-per-endpoint=1"} {
		t.Run(wish, func(t *testing.T) {
			s := newScene(t)
			s.set(with(asking(wish, "on-limit=wait:20s"), serveTCP(t, echoes))...)
			first := s.connectTo(vip)
			second := speak(t, vip)
			s.becomesMetric(1, "usher_connections_waiting")
			first.Close()
			wantEcho(t, second)
			s.becomesMetric(0, "usher_connections_waiting")
		})
	}
}

// A place was kept at an endpoint that the policy does not choose any more.
func TestAPlaceThatIsOutOfTheQuestionIsGivenBack(t *testing.T) {
	a, b := serveTCP(t, echoes), serveTCP(t, echoes)
	p := &script{order: []netip.AddrPort{a, b}}
	s := newScene(t, p.is)
	s.set(with(asking("max-connections-per-endpoint=1", "on-limit=wait:20s"), a, b)...)
	atA, atB := s.connectTo(vip), s.connectTo(vip)
	waits := speak(t, vip)
	s.becomesMetric(1, "usher_connections_waiting")
	again := make(chan struct{})
	p.when(func(r balancer.Request) {
		if len(r.Tried) == 0 {
			p.when(nil)
			p.reorder(a)
			close(again)
		}
	})
	atB.Close() // its place is kept
	<-again
	s.becomesMetric(1, "usher_connections_waiting")
	atA.Close()
	wantEcho(t, waits)
	p.reorder(b)
	wantEcho(t, speak(t, vip))
}

// A policy panics while a place is kept for a connection.
func TestAPlaceIsGivenBackInAPanic(t *testing.T) {
	p := &script{order: []netip.AddrPort{serveTCP(t, echoes)}}
	s := newScene(t, p.is)
	s.set(with(asking("max-connections-per-endpoint=1", "on-limit=wait:20s"), p.order...)...)
	first := s.connectTo(vip)
	waits := speak(t, vip)
	s.becomesMetric(1, "usher_connections_waiting")
	p.when(func(balancer.Request) { panic("a policy with a fault") })
	first.Close()
	wantReset(t, waits)
	p.when(nil)
	wantEcho(t, speak(t, vip))
	s.becomesMetric(0, "usher_connections_waiting")
}

// Who waits is not waited for when usher stops.
func TestStopEndsWaiting(t *testing.T) {
	for _, wish := range []string{"max-connections=1", "max-connections-per-endpoint=1"} {
		t.Run(wish, func(t *testing.T) {
			s := newScene(t, func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
			s.set(with(asking(wish, "on-limit=wait:20s"), serveTCP(t, echoes))...)
			s.connectTo(vip)
			waits := speak(t, vip)
			s.becomesMetric(1, "usher_connections_waiting")
			begun := time.Now()
			s.stop()
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			wantReset(t, waits)
			for range 2 {
				if r := s.record(); r.Reason != observe.Shutdown {
					t.Errorf("record: %s", r.Reason)
				}
			}
		})
	}
}

func TestSoManyConnectionsWereAskedFor(t *testing.T) {
	s := newScene(t, func(c *Config) { c.MaxConnections = 2 })
	s.set(with(service("web", vip), serveTCP(t, echoes))...)
	s.settled(1, 1)
	for range 2 {
		wantEcho(t, speak(t, vip))
	}
	wantResets(t)
	if r := s.record(); r.Reason != observe.LimitGlobal {
		t.Errorf("record: %s", r.Reason)
	}
}

// Room in the process comes back when sockets are given up, not only when connections
// end.
func TestThereIsMoreRoomThanBefore(t *testing.T) {
	s := newScene(t)
	web := with(asking("on-limit=wait:20s"), serveTCP(t, echoes))
	s.set(web...)
	s.settled(1, 1)
	s.proxier.data.connections.free.Store(200) // with fewer there is no room to wait either
	for range s.proxier.data.connections.room().Connections {
		wantEcho(t, speak(t, vip))
	}
	waits := speak(t, vip)
	s.becomesMetric(1, "usher_connections_waiting")
	s.set(web...) // the next pass measures the room
	wantEcho(t, waits)
}

// A full endpoint is not what has failed the connection, if another one was tried.
func TestAnEndpointRefusesAndTheOtherOneIsFull(t *testing.T) {
	refuses, well := freeAddr(t), serveTCP(t, echoes)
	p := &script{order: []netip.AddrPort{well, refuses}}
	s := newScene(t, p.is)
	s.set(with(asking("max-connections-per-endpoint=1", "passive-health=off"), p.order...)...)
	s.connectTo(vip)
	p.reorder(refuses, well)
	wantResets(t)
	if r := s.record(); r.Reason != observe.BackendRefused {
		t.Errorf("record %+v", r)
	}
}

func TestLimitsAreChanged(t *testing.T) {
	s := newScene(t)
	endpoint := serveTCP(t, echoes)
	s.set(with(asking("max-connections=1", "on-limit=wait:20s"), endpoint)...)
	s.connectTo(vip)
	waits := speak(t, vip)
	s.becomesMetric(1, "usher_connections_waiting")
	s.set(with(asking("max-connections=2", "on-limit=wait:20s"), endpoint)...)
	wantEcho(t, waits)
}

func TestTheRetryBudgetIsChanged(t *testing.T) {
	s := newScene(t)
	p := newBackend(t)
	refuses := freeAddr(t)
	s.set(with(asking("passive-health=off", "balancer=round-robin"), p.addr, refuses)...)
	s.served(vip)
	s.shares(4)
	s.set(with(asking("passive-health=off", "balancer=round-robin", "retry-budget=0%"), p.addr, refuses)...)
	s.eventually("one that is not tried again", func() error {
		if answer, err := get(vip); err == nil {
			return errors.New(answer + " answers")
		}
		return nil
	})
	if n, _ := s.metric("usher_retries_denied_total"); n == 0 {
		t.Error("it was not counted")
	}
}

// What has failed a connection is not what it waits for.
func TestAReplayWaitsForEndpointsThatAreLeft(t *testing.T) {
	a, b := serveTCP(t, crash), serveTCP(t, echoes)
	p := &script{order: []netip.AddrPort{a, b}}
	s := newScene(t, p.is)
	s.set(with(asking("max-connections-per-endpoint=2", "on-limit=wait:1s", "retry-on=reset-early", "passive-health=off"), a, b)...)
	first, second := s.connectTo(vip), s.connectTo(vip)
	before := p.picks.Load()
	third := speak(t, vip)
	if _, err := third.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the third hears %v, want what the crash was", err)
	}
	if n := p.picks.Load() - before; n > 10 {
		t.Errorf("it was picked for %d times", n)
	}
	if r := s.record(); r.Waited < 900*time.Millisecond || r.Reason != observe.BackendReset || r.Backend().Addr != a {
		t.Errorf("record %+v", r)
	}
	first.Close()
	second.Close()
	s.record()
	s.record()
	p.wantAllDone(t)
	for range 2 { // they say nothing, so that a does not crash
		silent, err := net.Dial("tcp", vip)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	s.eventually("a has room for two", func() error {
		if n := s.connectionsOf(a); n != 2 {
			return fmt.Errorf("it has %d connections", n)
		}
		return nil
	})
}

// connectionsOf is how many an endpoint has.
func (s *scene) connectionsOf(addr netip.AddrPort) int {
	for _, p := range s.proxier.Endpoints("", "") {
		for _, e := range p.Endpoints {
			if e.Address == addr.String() {
				return *e.Connections
			}
		}
	}
	return 0
}

// Nobody waits for an endpoint that is ill, until it is well again.
func TestAnEndpointGetsWellWhileOneWaits(t *testing.T) {
	s := newScene(t)
	one, ill := serveTCP(t, echoes), freeAddr(t)
	s.set(with(asking("max-connections-per-endpoint=1", "on-limit=wait:20s", "passive-health=consecutive-failures=1,base=1s,max=1s"), one, ill)...)
	s.connectTo(vip)
	if n, _ := s.metric("usher_endpoints", "state", "ejected"); n == 0 { // the first one has not tried it
		speak(t, vip).Close()
		s.becomesMetric(1, "usher_endpoints", "state", "ejected")
		s.becomesMetric(1, "usher_connections_waiting")
	}
	before, _ := s.metric("usher_connections_waiting")
	waits := speak(t, vip)
	s.becomesMetric(before+1, "usher_connections_waiting")
	serveAt(t, ill, func(c net.Conn) { io.CopyN(c, c, 1) })
	wantEcho(t, waits)
}

// The endpoints of this node may change without those of the cluster: hints.
func TestAnEndpointOfThisNodeComesWhileOneWaits(t *testing.T) {
	s := newScene(t, onNode1)
	web := asking("max-connections-per-endpoint=1", "on-limit=wait:20s")
	internalLocal(web)
	one, other := serveTCP(t, echoes), serveTCP(t, echoes)
	here := func(addr netip.AddrPort, zone string) *discoveryv1.EndpointSlice {
		return end(addr, node("node-1"), hinted(zone))
	}
	s.setInZone("a", web, here(one, "a"))
	s.connectTo(vip)
	waits := speak(t, vip)
	s.becomesMetric(1, "usher_connections_waiting")
	s.setInZone("a", web, here(one, "a"), here(other, "b"))
	wantEcho(t, waits)
}

// setInZone is set on a node-1 in a zone.
func (s *scene) setInZone(zone string, web *corev1.Service, slices ...*discoveryv1.EndpointSlice) {
	s.mu.Lock()
	s.objects = source.Objects{
		Services: []*corev1.Service{web}, Slices: slices,
		Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: zone}}},
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
