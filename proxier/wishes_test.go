package proxier

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// asking is a Service on vip with annotations, given as name=value.
func asking(wishes ...string) *corev1.Service {
	s := service("web", vip)
	s.Annotations = map[string]string{}
	for _, w := range wishes {
		name, value, _ := strings.Cut(w, "=")
		s.Annotations["usher-proxy.io/"+name] = value
	}
	return s
}

// shares is how often each backend answers n connections.
func (s *scene) shares(n int) map[string]int {
	s.t.Helper()
	count := map[string]int{}
	for range n {
		answer, err := get(vip)
		if err != nil {
			s.t.Fatal(err)
		}
		count[answer]++
	}
	return count
}

// becomes waits until n connections in a row are answered as wanted.
func (s *scene) becomes(what string, n int, as func(count map[string]int) bool) {
	s.t.Helper()
	s.eventually(what, func() error {
		if count := s.shares(n); !as(count) {
			return fmt.Errorf("answers %v", count)
		}
		return nil
	})
}

func (s *scene) wantEvent(part string) {
	s.t.Helper()
	s.eventually("an Event with "+part, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.ContainsFunc(s.events, func(e string) bool { return strings.Contains(e, part) }) {
			return fmt.Errorf("events %q", s.events)
		}
		return nil
	})
}

func TestServiceChoosesItsBalancer(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	lowest := a.addr.String()
	if b.addr.Compare(a.addr) < 0 {
		lowest = b.addr.String()
	}
	s.set(with(asking("balancer=first"), a.addr, b.addr)...)
	s.served(vip)
	if got := s.shares(20); got[lowest] != 20 {
		t.Errorf("first: %v, want %s only", got, lowest)
	}
	if r := s.record(); r.Balancer.String() != "first" {
		t.Errorf("the record says %s", r.Balancer)
	}
	s.set(with(asking("balancer=round-robin"), a.addr, b.addr)...)
	s.becomes("both by turns", 20, func(n map[string]int) bool { return n[a.addr.String()] == 10 && n[b.addr.String()] == 10 })

	s.set(with(asking("balancer=firsst"), a.addr, b.addr)...) // means nothing
	s.wantEvent(`"firsst"`)
	if got := s.shares(20); got[a.addr.String()] != 10 {
		t.Errorf("with a name that means nothing: %v, want the default", got)
	}
}

func TestWeightsOfAService(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	s.set(with(asking("weights=address="+a.addr.Addr().String()+":1"), a.addr, b.addr)...)
	s.served(vip)
	objects := with(asking("weights=pod=big:9"), a.addr, b.addr)
	objects[1].(*discoveryv1.EndpointSlice).Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "big"}
	s.set(objects...)
	s.becomes("a has nine of ten", 100, func(n map[string]int) bool { return n[a.addr.String()] >= 88 && n[a.addr.String()] <= 92 })
}

func TestANewcomerBeginsSlowly(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	slow := asking("slow-start=1h")
	s.set(with(slow, a.addr)...)
	s.served(vip)
	s.set(with(slow, a.addr, b.addr)...)
	s.becomes("b has one of eleven", 110, func(n map[string]int) bool { return n[b.addr.String()] >= 8 && n[b.addr.String()] <= 12 })
}

func TestSlowStartEnds(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	slow := asking("slow-start=1s")
	s.set(with(slow, a.addr)...)
	s.served(vip)
	s.set(with(slow, a.addr, b.addr)...)
	s.becomes("both by turns, though nothing changes", 20, func(n map[string]int) bool { return n[b.addr.String()] == 10 })
}

// An endpoint that refuses is left out, and comes back by itself.
func TestAnIllEndpointIsLeftOutUntilItIsWell(t *testing.T) {
	s := newScene(t)
	a, ill := newBackend(t), freeAddr(t)
	s.set(with(asking("passive-health=consecutive-failures=3,base=1s"), a.addr, ill)...)
	s.served(vip)
	s.becomes("only a is tried", 10, func(map[string]int) bool {
		for len(s.records) > 10 {
			<-s.records
		}
		for range 10 {
			if len(s.record().Attempts) != 1 {
				return false
			}
		}
		return true
	})
	s.wantEvent("EndpointEjected")
	serveAt(t, ill, func(c net.Conn) { io.WriteString(c, "well") })
	s.becomes("it is back", 10, func(n map[string]int) bool { return n["well"] == 5 })
}

// serveAt is serveTCP at an address.
func serveAt(t *testing.T, at netip.AddrPort, handle func(net.Conn)) {
	t.Helper()
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			handle(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
}

func TestACheckLeavesAnEndpointOut(t *testing.T) {
	s := newScene(t)
	well := serveTCP(t, func(c net.Conn) {
		if n, _ := c.Read(make([]byte, 4)); n == 4 {
			io.WriteString(c, "pong")
		}
	})
	mute := serveTCP(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	s.set(with(asking("health-check=tcp:send=ping,expect=pong", "health-interval=1s", "health-timeout=200ms", "health-fall=1"), well, mute)...)
	s.wantEvent("EndpointEjected")
	s.eventually("only the one that is well is asked", func() error {
		for range 5 {
			c, err := net.Dial("tcp", vip)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Second))
			io.WriteString(c, "ping")
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestHedgeIsFasterThanASilentEndpoint(t *testing.T) {
	s := newScene(t)
	a := newBackend(t)
	s.set(with(asking("hedge=20ms", "passive-health=off", "balancer=round-robin"), a.addr, blackhole(t))...)
	s.served(vip)
	hedged := 0
	for range 10 {
		if _, err := get(vip); err != nil {
			t.Fatal(err)
		}
		r := s.record()
		for _, attempt := range r.Attempts {
			if attempt.Result == observe.ConnectTimeout {
				t.Errorf("a connection waited for the silent endpoint: %+v", r.Attempts)
			}
		}
		if last := r.Attempts[len(r.Attempts)-1]; last.Hedged {
			hedged++
		}
	}
	if hedged == 0 {
		t.Error("no attempt was hedged")
	}
}

// An endpoint that takes connections and resets them costs nothing if the Service
// asks for that.
func TestWhatWasResetEarlyGoesToAnother(t *testing.T) {
	s := newScene(t)
	well := serveTCP(t, func(c net.Conn) {
		hello := make([]byte, 5)
		io.ReadFull(c, hello)
		c.Write(hello)
	})
	crashing := serveTCP(t, func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0)
	})
	s.set(with(asking("retry-on=refused,reset-early", "balancer=round-robin", "passive-health=off"), well, crashing)...)
	ask := func() (string, error) {
		c, err := net.Dial("tcp", vip)
		if err != nil {
			return "", err
		}
		defer c.Close()
		io.WriteString(c, "hello")
		answer, err := io.ReadAll(c)
		return string(answer), err
	}
	s.eventually("served", func() error { _, err := ask(); return err })
	replayed := 0
	for range 10 {
		if got, err := ask(); err != nil || got != "hello" {
			t.Errorf("the client hears %q, %v", got, err)
		}
	}
	for range 11 {
		if r := s.record(); len(r.Attempts) == 2 {
			replayed++
			if r.Attempts[0].Result != observe.BackendResetEarly || r.Backend().Addr != well || r.BytesIn != 5 {
				t.Errorf("record %+v", r)
			}
		}
	}
	if replayed < 4 {
		t.Errorf("%d of 10 connections were replayed", replayed)
	}
}

func TestLimitsOfAService(t *testing.T) {
	for _, c := range []struct {
		wish   string
		reason observe.Reason
	}{
		{"max-connections=2", observe.LimitService},
		{"max-connections-per-client=2", observe.LimitClient},
		{"max-connections-per-endpoint=1", observe.LimitBackend},
		{"connection-rate=1/s,2", observe.RateLimited},
	} {
		t.Run(c.wish, func(t *testing.T) {
			s := newScene(t)
			echo := func(c net.Conn) { io.Copy(c, c) }
			s.set(with(asking(c.wish), serveTCP(t, echo), serveTCP(t, echo))...)
			s.connectTo(vip)
			s.connectTo(vip)
			third, err := net.Dial("tcp", vip)
			if err == nil {
				defer third.Close()
				_, err = third.Read(make([]byte, 1))
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the third hears %v, want a reset", err)
			}
			if r := s.record(); r.Reason != c.reason {
				t.Errorf("record: %s, want %s", r.Reason, c.reason)
			}
		})
	}
}

// connectTo connects to an echo, which may take a while to be served.
func (s *scene) connectTo(addr string) (client net.Conn) {
	s.t.Helper()
	s.eventually(addr+" echoes", func() (err error) {
		if client, err = net.Dial("tcp", addr); err == nil {
			err = echoed(client)
		}
		return err
	})
	s.t.Cleanup(func() { client.Close() })
	return client
}

func TestAConnectionWaitsForItsTurn(t *testing.T) {
	for _, wish := range []string{"max-connections=1", "max-connections-per-endpoint=1"} {
		t.Run(wish, func(t *testing.T) {
			s := newScene(t)
			s.set(with(asking(wish, "on-limit=wait:20s"), serveTCP(t, func(c net.Conn) { io.Copy(c, c) }))...)
			first := s.connectTo(vip)
			second, err := net.Dial("tcp", vip)
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			if _, err := second.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			s.becomesMetric(1, "usher_connections_waiting")
			second.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, _ := second.Read(make([]byte, 1)); n > 0 {
				t.Error("the second one is served beside the first")
			}
			first.Close()
			second.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(second, make([]byte, 1)); err != nil {
				t.Errorf("the second one: %v", err)
			}
			second.Close()
			for r := s.record(); r.Waited < 100*time.Millisecond; { // the first one, or somebody before it
				r = s.record()
			}
		})
	}
}

// More clients than there are places wait for them: at those that are well, not at
// the one that refuses. All get their turn, and no place is lost.
func TestManyWaitForFewPlaces(t *testing.T) {
	s := newScene(t)
	a, b, ill := newBackend(t), newBackend(t), freeAddr(t)
	s.set(with(asking("max-connections-per-endpoint=1", "on-limit=wait:20s", "passive-health=consecutive-failures=2,base=1h"), a.addr, b.addr, ill)...)
	s.served(vip)
	const clients, each = 8, 40
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range each {
				if _, err := get(vip); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	refused := 0
	for range clients * each {
		for _, attempt := range s.record().Attempts {
			if attempt.Backend == ill {
				refused++
			}
		}
	}
	if refused > 2+clients { // those that were under way when it was found out
		t.Errorf("%d attempts went to the one that refuses", refused)
	}
	if got := s.shares(20); got[a.addr.String()] < 5 || got[b.addr.String()] < 5 { // who has just ended may still have its place
		t.Errorf("afterwards they answer %v: a place was lost", got)
	}
}

// held picks the first endpoint that was not tried, and can be made to wait with it.
type held struct {
	asked, goOn chan struct{}
	on          atomic.Bool
}

func (h *held) Picker(endpoints []balancer.Endpoint) balancer.Picker { return heldPicker{h, endpoints} }

type heldPicker struct {
	*held
	endpoints []balancer.Endpoint
}

func (h heldPicker) Pick(r balancer.Request) (balancer.Pick, error) {
	if h.on.CompareAndSwap(true, false) {
		close(h.asked)
		<-h.goOn
	}
	for _, e := range h.endpoints {
		if !slices.Contains(r.Tried, e.Addr) {
			return balancer.Pick{Endpoint: e}, nil
		}
	}
	return balancer.Pick{}, balancer.ErrNoEndpoints
}

// A place was kept for a connection at one endpoint, and then the policy chose
// another one that had room as well.
func TestAPlaceThatWasKeptInVainIsGivenBack(t *testing.T) {
	h := &held{asked: make(chan struct{}), goOn: make(chan struct{})}
	s := newScene(t, func(c *Config) {
		c.Service.Balancer, c.Policies = "held", map[string]func() balancer.Policy{"held": func() balancer.Policy { return h }}
	})
	echo := func(c net.Conn) { io.Copy(c, c) }
	s.set(with(asking("max-connections-per-endpoint=1", "on-limit=wait:20s"), serveTCP(t, echo), serveTCP(t, echo))...)
	atFirst, atSecond := s.connectTo(vip), s.connectTo(vip)
	waiting := make(chan net.Conn)
	go func() {
		c, _ := net.Dial("tcp", vip)
		waiting <- c
		echoed(c)
		waiting <- nil
	}()
	third := <-waiting
	s.eventually("one that waits", func() error {
		if n := s.proxier.data.whole.Waiting(); n != 1 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	h.on.Store(true)
	atSecond.Close() // its place is kept for the third one
	<-h.asked
	atFirst.Close()
	s.record()
	s.record() // both places are free
	close(h.goOn)
	<-waiting // it is served
	s.connectTo(vip)
	third.Close()
	s.connectTo(vip)
}

// Connections to an endpoint that leaves go on, unless the Service says for how
// long.
func TestConnectionsToAnEndpointThatLeaves(t *testing.T) {
	s := newScene(t)
	echo := serveTCP(t, func(c net.Conn) { io.Copy(c, c) })
	s.set(with(asking(), echo)...)
	client := s.connectTo(vip)
	s.set(asking())
	s.refused(vip)
	ping(t, client)

	began := time.Now()
	s.set(asking("drain-timeout=1s"))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client hears %v", err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it ended after %s", took)
	}
	r := s.record()
	for r.BytesIn == 0 { // of somebody who found out whether vip is refused
		r = s.record()
	}
	if r.Reason != observe.EndpointRemoved {
		t.Errorf("record: %s", r.Reason)
	}
}

func TestConnectionsToAServiceThatGoes(t *testing.T) {
	s := newScene(t)
	echo := serveTCP(t, func(c net.Conn) { io.Copy(c, c) })
	s.set(with(asking("drain-timeout=0"), echo)...)
	client := s.connectTo(vip)
	s.set()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client hears %v", err)
	}
}

func TestConnectionsToAnEndpointThatIsNotReady(t *testing.T) {
	for _, c := range []struct {
		wish string
		ends bool
	}{
		{"on-endpoint-unready=keep", false},
		{"on-endpoint-unready=drain", false}, // there is no drain-timeout
		{"on-endpoint-unready=reset", true},
	} {
		t.Run(c.wish, func(t *testing.T) {
			s := newScene(t)
			echo := serveTCP(t, func(c net.Conn) { io.Copy(c, c) })
			objects := with(asking(c.wish), echo)
			s.set(objects...)
			client := s.connectTo(vip)
			no := false
			unready := objects[1].(*discoveryv1.EndpointSlice).DeepCopy()
			unready.Endpoints[0].Conditions.Ready = &no
			s.set(objects[0], unready)
			s.refused(vip)
			err := echoed(client)
			if c.ends && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("the client hears %v", err)
			}
			if !c.ends && err != nil {
				t.Errorf("the client hears %v", err)
			}
		})
	}
}
