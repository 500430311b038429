package proxier

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// wantReset says that a client hears a reset.
func wantReset(t *testing.T, c io.Reader) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client hears %v, want a reset", err)
	}
}

// wantResets says that a client which says something hears a reset, and when it hears
// that does not matter.
func wantResets(t *testing.T) {
	t.Helper()
	c, err := net.Dial("tcp", vip)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err = c.Write([]byte("x")); err == nil {
			_, err = io.ReadAll(c)
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the client hears %v, want a reset", err)
	}
}

func wantResults(t *testing.T, r *observe.Record, want ...observe.Reason) {
	t.Helper()
	var got []observe.Reason
	for _, a := range r.Attempts {
		got = append(got, a.Result)
	}
	if len(got) != len(want) {
		t.Errorf("attempts %v, want %v", got, want)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("attempts %v, want %v", got, want)
			return
		}
	}
}

// begun waits until the policy is asked, and forgets the records of that.
func (s *scene) begun(p *script) {
	s.t.Helper()
	s.eventually("a pick", func() error {
		c, err := net.Dial("tcp", vip)
		if err != nil {
			return err
		}
		defer c.Close()
		c.(*net.TCPConn).CloseWrite()
		io.ReadAll(c) // to its end, however that comes
		if p.picks.Load() == 0 {
			return errors.New("there was none")
		}
		return nil
	})
	s.idle()
}

// idle waits until there are no connections, and forgets the records.
func (s *scene) idle() {
	s.t.Helper()
	s.eventually("the end of all connections", func() error {
		if n := s.proxier.data.connections.count(); n > 0 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	for len(s.records) > 0 {
		<-s.records
	}
}

func TestAReplayAsksNobodyTwice(t *testing.T) {
	refuses, crashes, well := freeAddr(t), serveTCP(t, crash), serveTCP(t, echoes)
	p := &script{order: []netip.AddrPort{refuses, crashes, well}}
	s := newScene(t, p.is)
	s.set(with(asking("retry-on=refused,reset-early", "passive-health=off"), p.order...)...)
	s.begun(p)
	client := speak(t, vip)
	wantEcho(t, client)
	client.Close()
	r := s.record()
	wantResults(t, r, observe.BackendRefused, observe.BackendResetEarly, observe.OK)
	if r.Backend().Addr != well || r.Reason != observe.OK {
		t.Errorf("record %+v", r)
	}
	p.wantAllDone(t)
}

// Retry.Attempts is for both searches together.
func TestAReplayIsAnAttempt(t *testing.T) {
	refuses, crashes, well := freeAddr(t), serveTCP(t, crash), serveTCP(t, echoes)
	p := &script{order: []netip.AddrPort{refuses, crashes, well}}
	s := newScene(t, p.is)
	s.set(with(asking("retry-on=refused,reset-early", "retries=1", "passive-health=off"), p.order...)...)
	s.begun(p)
	wantResets(t)
	r := s.record()
	wantResults(t, r, observe.BackendRefused, observe.BackendResetEarly)
	if r.Backend().Addr != crashes || r.Reason != observe.BackendReset {
		t.Errorf("record %+v", r)
	}
	p.wantAllDone(t)
}

// The record tells of the endpoint that the client had.
func TestAReplayThatFindsNobody(t *testing.T) {
	crashes, refuses := serveTCP(t, crash), freeAddr(t)
	p := &script{order: []netip.AddrPort{crashes, refuses}}
	s := newScene(t, p.is)
	s.set(with(asking("retry-on=refused,reset-early", "passive-health=off"), p.order...)...)
	s.begun(p)
	wantResets(t)
	r := s.record()
	wantResults(t, r, observe.BackendResetEarly, observe.BackendRefused)
	if r.Backend().Addr != crashes || r.Connect < 0 || r.LocalPort == 0 || r.Reason != observe.BackendReset {
		t.Errorf("record %+v", r)
	}
	p.wantAllDone(t)
}

// The client has had its endpoint, though there was no other one.
func TestAffinityOfAReplayThatFindsNobody(t *testing.T) {
	s := newScene(t)
	web := asking("retry-on=reset-early", "passive-health=off")
	web.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.set(with(web, serveTCP(t, crash))...)
	s.settled(1, 1)
	for _, want := range []string{"new", "hit"} {
		wantResets(t)
		if r := s.record(); r.Affinity.String() != want {
			t.Errorf("affinity is %q, want %q", r.Affinity, want)
		}
	}
}

// Where an early end counts, having been connected to does not.
func TestAnEndpointThatCrashesIsIll(t *testing.T) {
	s := newScene(t)
	web := asking("retry-on=reset-early", "balancer=round-robin", "passive-health=consecutive-failures=3,base=1m,max=1m")
	s.set(with(web, serveTCP(t, crash), serveTCP(t, echoes))...)
	s.eventually("it is ill", func() error {
		if c, err := net.Dial("tcp", vip); err == nil {
			defer c.Close()
			echoed(c)
		}
		if n, _ := s.metric("usher_endpoints", "state", "ejected"); n != 1 {
			return errors.New("it is well")
		}
		return nil
	})
	if n, _ := s.metric("usher_endpoint_ejections_total", "cause", "connections"); n != 1 {
		t.Errorf("%g ejections are counted", n)
	}
}

// An answer says that an endpoint is well.
func TestAnEndpointThatCrashesNowAndThen(t *testing.T) {
	var asked atomic.Int64
	flaky := serveTCP(t, func(c net.Conn) {
		if asked.Add(1)%2 == 0 {
			crash(c)
		} else {
			echoes(c)
		}
	})
	p := &script{order: []netip.AddrPort{flaky, serveTCP(t, echoes)}}
	s := newScene(t, p.is)
	s.set(with(asking("retry-on=reset-early", "passive-health=consecutive-failures=2,base=1m,max=1m"), p.order...)...)
	for range 8 {
		s.connectTo(vip).Close()
	}
	if n, _ := s.metric("usher_endpoints", "state", "ejected"); n != 0 || asked.Load() < 8 {
		t.Errorf("after %d connections %g are ill", asked.Load(), n)
	}
}

// What an endpoint has ended takes no place there while another one is looked for.
func TestTwoCrashAndEachWantsTheOther(t *testing.T) {
	once := func() netip.AddrPort {
		var asked atomic.Int64
		return serveTCP(t, func(c net.Conn) {
			if asked.Add(1) == 1 {
				crash(c)
			} else {
				echoes(c)
			}
		})
	}
	p := &script{order: []netip.AddrPort{once(), once()}}
	s := newScene(t, p.is)
	s.set(with(asking("max-connections-per-endpoint=1", "on-limit=wait:20s", "retry-on=reset-early", "passive-health=off"), p.order...)...)
	s.settled(1, 2)
	var clients []net.Conn
	for i, addr := range p.order {
		c, err := net.Dial("tcp", vip)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
		s.eventually("a connection to "+addr.String(), func() error {
			if s.connectionsOf(addr) == 0 {
				return fmt.Errorf("%d has none", i)
			}
			return nil
		})
	}
	for _, c := range clients {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		c.SetDeadline(time.Now().Add(patience))
		wantEcho(t, c)
		c.Close()
	}
}

// The record tells why the endpoint that the client has got does not see it, not why
// the one that was asked for last would not.
func TestWhyTheEndpointSeesTheNode(t *testing.T) {
	elsewhere := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), freeAddr(t).Port())
	late, accept := lateEndpoint(t)
	for _, c := range []struct {
		name, wish string
		order      []netip.AddrPort
		then       func() // before the second attempt
	}{
		{"a replay that finds nobody", "retry-on=refused,reset-early", []netip.AddrPort{serveTCP(t, crash), elsewhere}, func() {}},
		{"a hedge that fails", "hedge=10ms", []netip.AddrPort{late, elsewhere}, accept},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &script{order: c.order}
			s := newSceneWith(t, func(p *Proxier) { p.source.works[IPv4].Store(true) }, p.is, func(c *Config) { c.Service.Retry.Timeout = 4 * time.Second })
			s.set(with(asking(c.wish, "passive-health=off"), c.order...)...)
			s.settled(1, 2)
			p.when(func(r balancer.Request) {
				if len(r.Tried) > 0 {
					c.then()
				}
			})
			client := speak(t, vip)
			s.eventually("both attempts, and an end or an endpoint", func() error {
				if p.picks.Load() < 2 || len(s.records) == 0 && s.connectionsOf(c.order[0]) == 0 {
					return errors.New("neither")
				}
				return nil
			})
			client.(*net.TCPConn).SetLinger(0)
			client.Close()
			if r := s.record(); len(r.Attempts) != 2 || r.Backend().Addr != c.order[0] || r.SourceWhy != observe.WordOf("hairpin") { // it has the client's address
				t.Errorf("record %+v", r)
			}
		})
	}
}

// lateEndpoint answers no SYN until it accepts what has filled its backlog.
func lateEndpoint(t *testing.T) (addr netip.AddrPort, accept func()) {
	s := loopbackSocket(t)
	fill(t, s)
	return s.addr, func() {
		for {
			fd, _, err := unix.Accept(s.fd)
			if err != nil {
				return
			}
			unix.Close(fd)
		}
	}
}

// A policy that panics in Done loses neither connections nor places.
func TestAPanicWhileOneIsReplayed(t *testing.T) {
	crashes, well := serveTCP(t, crash), serveTCP(t, echoes)
	p := &script{order: []netip.AddrPort{crashes, well}}
	var on atomic.Bool
	p.done = func() {
		if on.CompareAndSwap(true, false) {
			panic("a policy with a fault")
		}
	}
	s := newScene(t, p.is)
	s.set(with(asking("retry-on=reset-early", "passive-health=off", "max-connections-per-endpoint=1"), p.order...)...)
	s.begun(p)
	on.Store(true)
	wantResets(t)
	if r := s.record(); r.Reason != observe.InternalError {
		t.Errorf("record %+v", r)
	}
	p.wantAllDone(t)
	for range 2 {
		again := speak(t, vip)
		wantEcho(t, again)
		again.Close()
		wantResults(t, s.record(), observe.BackendResetEarly, observe.OK)
	}
	p.wantAllDone(t)
}

// faulty panics when it is told of an answer.
type faulty struct{ dones atomic.Int64 }

func (f *faulty) Picker(e []balancer.Endpoint) balancer.Picker { return faultyPicker{f, e} }

type faultyPicker struct {
	*faulty
	endpoints []balancer.Endpoint
}

func (f faultyPicker) Pick(balancer.Request) (balancer.Pick, error) {
	return balancer.Pick{
		Endpoint: f.endpoints[0],
		Answered: func(time.Duration) { panic("a policy with a fault") },
		Done:     func(balancer.Outcome) { f.dones.Add(1) },
	}, nil
}

func TestAPanicAtAnAnswer(t *testing.T) {
	for _, wish := range []string{"retry-on=refused", "retry-on=reset-early"} {
		t.Run(wish, func(t *testing.T) {
			f := &faulty{}
			s := newScene(t, func(c *Config) {
				c.Service.Balancer, c.Policies = "faulty", map[string]func() balancer.Policy{"faulty": func() balancer.Policy { return f }}
			})
			s.set(with(asking(wish), serveTCP(t, echoes))...)
			s.settled(1, 1)
			wantResets(t)
			if r := s.record(); r.Reason != observe.InternalError || r.SentClient != observe.CloseRST {
				t.Errorf("record %+v", r)
			}
			if n := f.dones.Load(); n != 1 {
				t.Errorf("its pick was done %d times", n)
			}
		})
	}
}
