package proxier

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

func listenFull(s *streamSocket) error { return unix.Listen(s.fd, 0) }

var vip = testVIP(1)

func TestConnectionsAreSpreadOverTheEndpointsAndRecorded(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	s.set(with(service("web", vip), a.addr, b.addr)...)
	s.served(vip)
	for range 9 {
		answer, err := get(vip)
		if err != nil {
			t.Fatal(err)
		}
		r := s.record()
		if answer != r.Backend().Addr.String() {
			t.Errorf("%s answered, the record says %s", answer, r.Backend().Addr)
		}
		if r.Reason != observe.OK || r.BytesOut != int64(len(answer)) || r.VIP.String() != vip ||
			r.Service != "web" || r.Namespace != "default" || len(r.Attempts) != 1 || r.Eligible != 2 || r.LocalPort == 0 {
			t.Errorf("record %+v", r)
		}
	}
	if a.count.Load() != 5 || b.count.Load() != 5 {
		t.Errorf("10 connections went %d : %d", a.count.Load(), b.count.Load())
	}
}

// counting is a policy that counts how often each endpoint was picked.
type counting struct {
	balancer.Policy
	mu    sync.Mutex
	picks map[netip.AddrPort]int
}

type countingPicker struct {
	balancer.Picker
	all *counting
}

func (c *counting) Picker(e []balancer.Endpoint) balancer.Picker {
	return countingPicker{c.Policy.Picker(e), c}
}

func (p countingPicker) Pick(r balancer.Request) (balancer.Pick, error) {
	pick, err := p.Picker.Pick(r)
	if err == nil {
		p.all.mu.Lock()
		defer p.all.mu.Unlock()
		p.all.picks[pick.Endpoint.Addr]++
	}
	return pick, err
}

// A thousand connections to a Service with one dead endpoint of three.
func TestDeadEndpointCostsNoConnection(t *testing.T) {
	roundRobin, err := balancer.New("round-robin")
	if err != nil {
		t.Fatal(err)
	}
	policy := &counting{Policy: roundRobin, picks: map[netip.AddrPort]int{}}
	s := newScene(t, func(c *Config) {
		c.Service.Balancer, c.Policies = "counting", map[string]func() balancer.Policy{"counting": func() balancer.Policy { return policy }}
		c.Service.Outlier.Passive.Failures = 0 // it is asked again and again
	})
	a, b, dead := newBackend(t), newBackend(t), freeAddr(t)
	s.set(with(service("web", vip), a.addr, b.addr, dead)...)
	s.eventually("served", func() error { _, err := get(vip); return err })

	const n = 1000
	var failed atomic.Int64
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			for range n / 10 {
				if _, err := get(vip); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d of %d connections failed", failed.Load(), n)
	}
	retried := 0
	for range n + 1 {
		r := s.record()
		if r.Attempts[0].Backend != dead {
			continue
		}
		retried++
		if len(r.Attempts) != 2 || r.Attempts[0].Errno != "ECONNREFUSED" || r.Attempts[1].Result != observe.OK {
			t.Fatalf("attempts %+v", r.Attempts)
		}
	}
	if retried != policy.picks[dead] || retried < n/4 {
		t.Errorf("%d records tell of the dead endpoint, it was picked %d times", retried, policy.picks[dead])
	}
}

func TestNoEndpointsRefuseAndComeBack(t *testing.T) {
	s := newScene(t)
	web, b := service("web", vip), newBackend(t)
	for range 3 {
		s.set(web)
		s.refused(vip)
		s.set(with(web, b.addr)...)
		s.served(vip)
	}
	s.set() // the Service is deleted
	s.refused(vip)
}

func TestAllAttemptsFailedIsAReset(t *testing.T) {
	s := newScene(t)
	s.set(with(service("web", vip), freeAddr(t), freeAddr(t))...)
	s.eventually("a reset", func() error {
		_, err := get(vip)
		if !errors.Is(err, syscall.ECONNRESET) {
			return errors.Join(errors.New("want a reset"), err)
		}
		return nil
	})
	r := s.record()
	if r.Reason != observe.RetriesExhausted || r.Errno != "ECONNREFUSED" || len(r.Attempts) != 2 || r.SentClient != observe.CloseRST {
		t.Errorf("record %+v", r)
	}
}

// An endpoint that answers no SYN delays the connections that picked it by one
// attempt, and no others.
func TestBlackholedEndpointDelaysNobodyElse(t *testing.T) {
	s := newScene(t)
	hole, b := blackhole(t), newBackend(t)
	s.set(with(service("web", vip), hole, b.addr)...)
	s.eventually("bound", func() error {
		c, err := net.Dial("tcp", vip)
		if err == nil {
			c.Close()
		}
		return err
	})
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			if _, err := get(vip); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	slow := 0
	for range 20 {
		r := s.record()
		if r.Reason != observe.OK {
			continue // the first one above, closed by its client
		}
		if r.Attempts[0].Backend != hole {
			if r.Connect > time.Second { // for which an attempt may last
				t.Errorf("a connection that did not pick the black hole took %s to connect", r.Connect)
			}
			continue
		}
		slow++
		if r.Attempts[0].Result != observe.ConnectTimeout || len(r.Attempts) != 2 {
			t.Errorf("attempts %+v", r.Attempts)
		}
	}
	if slow == 0 {
		t.Error("nobody picked the black hole")
	}
}

func TestBrokenServiceHarmsNoOther(t *testing.T) {
	s := newScene(t)
	b := newBackend(t)
	taken, err := net.Listen("tcp", testVIP(2))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	notAnIP := service("not-an-ip", testVIP(4))
	notAnIP.Spec.ClusterIP = "garbage"
	objects := with(service("web", vip), b.addr)
	objects = append(objects,
		service("address-in-use", testVIP(2)),
		service("web-again", vip),
		notAnIP)
	s.set(objects...)
	s.served(vip)
	s.eventually("all told", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		all := strings.Join(s.events, "\n")
		for _, want := range []string{
			"default/address-in-use CannotListen",
			"default/web-again AddressTaken", "default/not-an-ip BadAddress",
		} {
			if !strings.Contains(all, want) {
				return errors.New("no event says " + want + ", only\n" + all)
			}
		}
		return nil
	})
}

// Two Services swap their addresses in one update: neither can have its new one
// before the other has let go of it.
func TestAddressesSwapBetweenServices(t *testing.T) {
	s := newScene(t)
	other := testVIP(2)
	a, b := newBackend(t), newBackend(t)
	answers := func(at, at2 string) {
		t.Helper()
		s.eventually("swapped", func() error {
			for addr, want := range map[string]*backend{at: a, at2: b} {
				if got, err := get(addr); err != nil || got != want.addr.String() {
					return fmt.Errorf("%s: got %q, %v", addr, got, err)
				}
			}
			return nil
		})
	}
	for range 3 {
		s.set(append(with(service("a", vip), a.addr), with(service("b", other), b.addr)...)...)
		answers(vip, other)
		s.set(append(with(service("a", other), a.addr), with(service("b", vip), b.addr)...)...)
		answers(other, vip)
	}
}

func TestStopEndsConnectionsThatDoNot(t *testing.T) {
	s := newScene(t, func(c *Config) { c.DrainTimeout = 200 * time.Millisecond })
	client := s.connectToEcho()
	s.stop()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the stop: %v, want a reset", err)
	}
	if r := s.record(); r.Reason != observe.Shutdown {
		t.Errorf("record %+v", r)
	}
	if _, err := net.Dial("tcp", vip); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the stop, a new connect gives %v", err)
	}
}

func TestDeletedServiceKeepsEstablishedConnections(t *testing.T) {
	s := newScene(t)
	client := s.connectToEcho()
	s.set()
	s.refused(vip)
	ping(t, client)
}

// connectToEcho serves an echo at vip, and returns a connection to it that has
// been accepted.
func (s *scene) connectToEcho() (client net.Conn) {
	s.t.Helper()
	echo := serveTCP(s.t, func(c net.Conn) { io.Copy(c, c) })
	s.set(with(service("echo", vip), echo)...)
	s.eventually("connected", func() (err error) { // a socket listens for a moment when it is opened, and resets
		if client, err = net.Dial("tcp", vip); err == nil {
			s.t.Cleanup(func() { client.Close() })
			err = echoed(client)
		}
		return err
	})
	return client
}

// ping proves that an echo comes back.
func ping(t testing.TB, client net.Conn) {
	t.Helper()
	if err := echoed(client); err != nil {
		t.Fatal(err)
	}
}

func echoed(client net.Conn) error {
	client.SetDeadline(time.Now().Add(patience))
	if _, err := client.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(client, make([]byte, 1))
	return err
}

// A connection that ends by itself while usher stops is left alone.
func TestStopWaitsForConnections(t *testing.T) {
	s := newScene(t)
	client := s.connectToEcho()
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stop() }()
	s.eventually("stopping", func() error {
		if c, err := net.Dial("tcp", vip); err == nil {
			c.Close()
			return errors.New("new connections are served")
		}
		return nil
	})
	ping(t, client)
	client.Close()
	<-stopped
	for {
		if r := s.record(); r.BytesIn == 2 {
			if r.Reason != observe.OK {
				t.Errorf("record %+v", r)
			}
			return
		}
	}
}

// A fault of one connection is that connection's alone.
type panicking struct{}

func (panicking) Picker([]balancer.Endpoint) balancer.Picker { return panicking{} }
func (panicking) Pick(balancer.Request) (balancer.Pick, error) {
	panic("a policy with a fault")
}

func TestPanicEndsOneConnection(t *testing.T) {
	s := newScene(t, func(c *Config) {
		c.Service.Balancer, c.Policies = "panicking", map[string]func() balancer.Policy{"panicking": func() balancer.Policy { return panicking{} }}
	})
	s.set(with(service("web", vip), freeAddr(t))...)
	for range 2 {
		s.eventually("a reset", func() error {
			if _, err := get(vip); !errors.Is(err, syscall.ECONNRESET) {
				return errors.New("no reset")
			}
			return nil
		})
		if r := s.record(); r.Reason != observe.InternalError {
			t.Errorf("record %+v", r)
		}
	}
}

func TestConnectionsOverTheLimitAreReset(t *testing.T) {
	s := newScene(t)
	first := s.connectToEcho()
	s.settled(1, 1) // a pass counts the files
	s.proxier.data.connections.free.Store(0)
	for range s.proxier.data.connections.room().Connections - 1 {
		wantEcho(t, speak(t, vip))
	}
	wantResets(t)
	if r := s.record(); r.Reason != observe.LimitGlobal {
		t.Errorf("record %+v", r)
	}
	first.Close()
	if r := s.record(); r.Reason != observe.OK {
		t.Errorf("record %+v", r)
	}
}
