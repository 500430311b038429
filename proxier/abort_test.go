package proxier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/tcp/tcptest"
)

// pair is both ends of a connection.
func pair(t *testing.T) (one, other *net.TCPConn) { return tcptest.Pair(t, net.Dialer{}) }

// A connection may be aborted between any two of its phases.
func TestAConnectionIsAbortedBetweenTwoPhases(t *testing.T) {
	c := &connection{}
	c.abort(observe.EndpointRemoved)
	c.abort(observe.Shutdown) // too late
	if err := c.during(func(context.Context) error { t.Error("it goes on"); return nil }); err != context.Canceled {
		t.Errorf("it ends with %v", err)
	}
	if got := c.reasonOf(context.Canceled); got != observe.EndpointRemoved {
		t.Errorf("it ends for the reason %s", got)
	}
	client, in := pair(t)
	_, out := pair(t)
	ended := make(heard, 1)
	r := relay.New(adopt(t, in), adopt(t, out), relay.Settings{Limits: &relay.Limits{HalfClose: time.Minute}, Clock: relay.NewClock()}, ended)
	c.setRelay(r, true)
	r.Start()
	if res := <-ended; res.Reason != observe.EndpointRemoved {
		t.Errorf("the relay ends for the reason %s", res.Reason)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client hears %v", err)
	}
}

// heard is an owner that is only told of the end.
type heard chan relay.Result

func (heard) Answered(time.Duration)     {}
func (heard) EndedEarly(*relay.EarlyEnd) {}
func (heard) Panicked(any)               {}
func (h heard) Ended(r relay.Result)     { h <- r }

// adopt takes a socket over from the runtime.
func adopt(t *testing.T, c *net.TCPConn) *tcp.Conn {
	return tcptest.Adopt(t, c, anyPollers.For(nil))
}

// An endpoint that is gone before it has heard who the client is.
func TestAnEndpointThatCannotBeToldTheClient(t *testing.T) {
	var told []balancer.Outcome
	left := 0
	_, socket := pair(t)
	out := adopt(t, socket)
	out.CloseWrite()
	addr := netip.MustParseAddrPort("192.0.2.1:80")
	c := &connection{settings: &annotation.Settings{ProxyProtocol: 1}, record: &observe.Record{Client: addr, VIP: addr}}
	err := c.announce(dial.Result{Conn: out, Attempts: []observe.Attempt{{Result: observe.OK}}, Leave: func() { left++ }, Pick: balancer.Pick{Done: func(o balancer.Outcome) { told = append(told, o) }}})
	if err == nil || left != 1 || len(told) != 1 || told[0].Err == nil {
		t.Errorf("%v; it was left %d times, and %v was told", err, left, told)
	}
	if got := c.reasonOf(err); got != observe.BackendReset {
		t.Errorf("the reason is %s", got)
	}
}

// Neither checks nor attempts that were overtaken outlive Run.
func TestNothingRunsOn(t *testing.T) {
	s := newScene(t, func(c *Config) { c.Service.Retry.Timeout, c.Service.Retry.Total = time.Minute, time.Minute })
	a := newBackend(t)
	s.set(with(asking("hedge=10ms", "balancer=round-robin", "passive-health=off", "health-check=tcp", "health-fall=10"), a.addr, blackhole(t))...)
	s.served(vip)
	s.shares(4)
	if got := ofOurs(); !bytes.Contains(got, []byte("outlier.(*Prober).run")) || !bytes.Contains(got, []byte("tcp.Connect")) {
		t.Fatalf("there are only\n%s", got)
	}
	s.stop()
	for _, what := range []string{"proxier/outlier.", "proxier/dial.", "proxier.(*connection)"} {
		s.eventually("its end", func() error { // who has said that it ends may yet have to
			if got := ofOurs(); bytes.Contains(got, []byte(what)) {
				return fmt.Errorf("%s is left:\n%s", what, got)
			}
			return nil
		})
	}
}

// ofOurs are the stacks of all goroutines.
func ofOurs() []byte {
	var stacks bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	return stacks.Bytes()
}
