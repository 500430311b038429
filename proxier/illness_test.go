package proxier

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
)

// ejects has connections until Status tells that an endpoint is ill.
func (s *scene) ejects(addr netip.AddrPort) {
	s.t.Helper()
	s.eventually(addr.String()+" is ill", func() error {
		get(vip)
		for _, p := range s.proxier.Endpoints("", "") {
			for _, e := range p.Endpoints {
				if e.Address == addr.String() && e.Health != nil && e.Health.Out {
					return nil
				}
			}
		}
		return errors.New("it is well")
	})
}

func TestHowManyAreIllIsMeasured(t *testing.T) {
	s := newScene(t)
	a, ill := newBackend(t).addr, freeAddr(t)
	web := asking("passive-health=consecutive-failures=2,base=1m,max=1m", "balancer=round-robin")
	s.set(with(web, a, ill)...)
	s.served(vip)
	s.becomesMetric(0, "usher_endpoints", "state", "ejected")
	s.ejects(ill)
	s.becomesMetric(1, "usher_endpoints", "state", "ejected")
	s.set(with(web, a)...)
	s.becomesMetric(0, "usher_endpoints", "state", "ejected")
	s.set(with(web, a, ill)...) // what is known of it is not forgotten
	s.becomesMetric(1, "usher_endpoints", "state", "ejected")
	s.set(with(asking("passive-health=off"), a, ill)...)
	s.becomesMetric(0, "usher_endpoints", "state", "ejected")
}

// A change that is told late does not bring the series of a Service back.
func TestWhatIsGoneIsNotMeasured(t *testing.T) {
	s := newScene(t)
	s.set(with(service("web", vip), newBackend(t).addr)...)
	s.settled(1, 1)
	var l *listener
	for _, p := range s.proxier.seen.Load().ports() {
		l = p.listener
	}
	s.set()
	s.eventually("no series", func() error {
		if _, any := s.metric("usher_endpoints", "service", "web"); any {
			return errors.New("there are some")
		}
		return nil
	})
	l.healthChanged(outlier.Change{Endpoint: freeAddr(t), Out: true, Cause: outlier.ByConnections})
	for _, name := range []string{"usher_endpoints", "usher_endpoint_ejections_total"} {
		if _, any := s.metric(name, "service", "web"); any {
			t.Errorf("%s is there again", name)
		}
	}
}

// crumbling panics when it is given endpoints.
type crumbling struct{ on atomic.Bool }

func (c *crumbling) Picker(e []balancer.Endpoint) balancer.Picker {
	if c.on.Load() {
		panic("a policy with a fault")
	}
	policy, _ := balancer.New("round-robin")
	return policy.Picker(e)
}

// A policy that panics ends neither usher nor what other connections wait for.
func TestAPanicOverEndpoints(t *testing.T) {
	c := &crumbling{}
	s := newScene(t, func(cfg *Config) {
		cfg.Service.Balancer, cfg.Policies = "crumbling", map[string]func() balancer.Policy{"crumbling": func() balancer.Policy { return c }}
	})
	a, ill := newBackend(t).addr, freeAddr(t)
	web := asking("passive-health=consecutive-failures=1,base=1m,max=1m")
	s.set(with(web, a, ill)...)
	s.served(vip)
	c.on.Store(true)
	s.ejects(ill) // by a connection, which makes a new Picker
	s.set(with(web, a)...)
	s.eventually("no endpoint", func() error {
		if answer, err := get(vip); err == nil {
			return errors.New("there is " + answer)
		}
		return nil
	})
	c.on.Store(false)
	s.set(with(web, newBackend(t).addr)...)
	s.served(vip)
}

// mortal answers datagrams with its address until it crashes.
type mortal struct {
	addr  netip.AddrPort
	crash func()
	mute  *atomic.Bool // it does not answer
}

func newMortal(t *testing.T) mortal { return newMortalAt(t, netip.MustParseAddrPort("127.0.0.1:0")) }

func newMortalAt(t *testing.T, at netip.AddrPort) mortal {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	done, mute := make(chan struct{}), new(atomic.Bool)
	go func() {
		defer close(done)
		for buf := make([]byte, 1500); ; {
			_, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if !mute.Load() {
				conn.WriteToUDPAddrPort([]byte(conn.LocalAddr().String()), from)
			}
		}
	}()
	crash := func() { conn.Close(); <-done }
	t.Cleanup(crash)
	return mortal{netip.MustParseAddrPort(conn.LocalAddr().String()), crash, mute}
}

// Clients of an endpoint that is ill get another one.
func TestSessionsMoveFromAnEndpointThatIsIll(t *testing.T) {
	s := newScene(t)
	one, other := newMortal(t), newMortal(t)
	objects := datagramsTo("dns", vip, one.addr, other.addr)
	objects[0].(*corev1.Service).Annotations = map[string]string{
		"usher-proxy.io/balancer": "first", "usher-proxy.io/health-check": "udp:77686f3f", // who?
		"usher-proxy.io/health-interval": "1s", "usher-proxy.io/health-timeout": "200ms", "usher-proxy.io/health-fall": "1",
	}
	s.set(objects...)
	s.answered(vip)
	client, err := net.Dial("udp4", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	first, err := askAgain(client, patience)
	if err != nil {
		t.Fatal(err)
	}
	next := other.addr.String()
	if first == next {
		next = one.addr.String()
		other.mute.Store(true)
	} else {
		one.mute.Store(true)
	}
	s.eventually("the other one answers", func() error {
		if got, err := askAgain(client, 100*time.Millisecond); got != next {
			return fmt.Errorf("%q, %v", got, err)
		}
		return nil
	})
}

// Sessions are as good as connections: what was answered in between counts.
func TestAUDPEndpointThatRefusesNowAndThen(t *testing.T) {
	s := newScene(t, func(c *Config) { c.Service.UDP.Stream = 200 * time.Millisecond })
	at := newMortal(t)
	objects := datagramsTo("dns", vip, at.addr)
	objects[0].(*corev1.Service).Annotations = map[string]string{"usher-proxy.io/passive-health": "consecutive-failures=2,base=1m,max=1m"}
	s.set(objects...)
	over := func(reason observe.Reason) {
		t.Helper()
		for s.record().Reason != reason {
		}
	}
	for range 3 {
		s.answered(vip)
		over(observe.Idle)
		at.crash()
		ask(vip, 100*time.Millisecond)
		over(observe.BackendRefused)
		at = newMortalAt(t, at.addr)
	}
	if n, _ := s.metric("usher_endpoints", "state", "ejected"); n != 0 {
		t.Error("it is ill")
	}
}

func TestEndpointsThatHaveLeftAreForgotten(t *testing.T) {
	here, there, gone := freeAddr(t), freeAddr(t), freeAddr(t)
	var r refusals
	for _, addr := range []netip.AddrPort{here, there, gone} {
		r.note(addr)
	}
	r.keep(&Port{Cluster: Eligible{Endpoints: []balancer.Endpoint{{Addr: here}}}, Local: Eligible{Endpoints: []balancer.Endpoint{{Addr: there}}}})
	if r.last(here).IsZero() || r.last(there).IsZero() || !r.last(gone).IsZero() {
		t.Errorf("known are %v", r.at)
	}
}

func TestRefusalsOfEndpointsThatHaveLeftAreForgotten(t *testing.T) {
	s := newScene(t)
	stays, leaves := packetEcho(t), newMortal(t)
	s.set(datagramsTo("dns", vip, stays, leaves.addr)...)
	s.answered(vip)
	s.settled(1, 2)
	l := s.proxier.seen.Load().ports()[0].listener
	leaves.crash()
	s.eventually("a refusal", func() error {
		ask(vip, 100*time.Millisecond)
		if l.refusals.last(leaves.addr).IsZero() {
			return errors.New("there was none")
		}
		return nil
	})
	s.set(datagramsTo("dns", vip, stays)...)
	s.eventually("it is forgotten", func() error {
		if !l.refusals.last(leaves.addr).IsZero() {
			return errors.New("it is known")
		}
		return nil
	})
}

// Each session ends the pick that it has begun with.
func TestPicksOfSessionsEnd(t *testing.T) {
	p := &script{order: []netip.AddrPort{packetEcho(t)}}
	s := newScene(t, p.is, func(c *Config) { c.Service.UDP.Stream = 200 * time.Millisecond })
	s.set(datagramsTo("dns", vip, p.order...)...)
	s.answered(vip)
	s.answered(vip)
	s.eventually("all have ended", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := p.lasts[p.order[0]]; n != 0 {
			return fmt.Errorf("%d last", n)
		}
		return nil
	})
}

// What a UDP endpoint has answered before it crashed does not bring it back.
func TestOldAnswersSayNothing(t *testing.T) {
	s := newScene(t, func(c *Config) { c.Service.UDP.Stream = 3 * time.Second })
	well, crashes := packetEcho(t), newMortal(t)
	objects := datagramsTo("dns", vip, well, crashes.addr)
	objects[0].(*corev1.Service).Annotations = map[string]string{"usher-proxy.io/passive-health": "consecutive-failures=1,base=1m,max=1m"}
	s.set(objects...)
	s.answered(vip)
	s.eventually("an answer of the one that will crash", func() error {
		if got, err := ask(vip, patience); got != crashes.addr.String() {
			return errors.Join(errors.New(got), err)
		}
		return nil
	})
	crashes.crash()
	s.eventually("it is ill", func() error {
		ask(vip, 50*time.Millisecond)
		if n, _ := s.metric("usher_endpoints", "state", "ejected"); n != 1 {
			return errors.New("it is well")
		}
		return nil
	})
	s.eventually("no session is left", func() error {
		if n, _ := s.metric("usher_udp_sessions_active"); n != 0 {
			return errors.New("there are some")
		}
		return nil
	})
	if n, _ := s.metric("usher_endpoints", "state", "ejected"); n != 1 {
		t.Error("it is well by what it was before")
	}
}
