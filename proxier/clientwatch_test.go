package proxier

import (
	"fmt"
	"net"
	"testing"

	"github.com/usher-proxy/usher/proxier/observe"
)

// hangUp closes a client's connection with a reset.
func hangUp(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func wantClientAbort(t *testing.T, r *observe.Record) {
	t.Helper()
	if r.Reason != observe.ClientAbort || r.Errno != "ECONNRESET" || r.ClientClose != observe.CloseRST || r.ClientCloseAt <= 0 || r.SentClient != observe.CloseNone {
		t.Errorf("record %+v", r)
	}
}

// Nobody waits in the place of a client that has gone.
func TestAClientGoesThatWaitsForItsTurn(t *testing.T) {
	for _, wish := range []string{"max-connections=1", "max-connections-per-endpoint=1"} {
		t.Run(wish, func(t *testing.T) {
			s := newScene(t)
			s.set(with(asking(wish, "on-limit=wait:30s"), serveTCP(t, echoes))...)
			s.connectTo(vip)
			waits := speak(t, vip)
			s.becomesMetric(1, "usher_connections_waiting")
			hangUp(waits)
			s.becomesMetric(0, "usher_connections_waiting")
			wantClientAbort(t, s.record())
		})
	}
}

// It has said everything that it has to say, and waits for its answer.
func TestAClientThatHasClosedItsSideKeepsItsTurn(t *testing.T) {
	s := newScene(t)
	s.set(with(asking("max-connections=1", "on-limit=wait:30s"), serveTCP(t, echoes))...)
	first := s.connectTo(vip)
	waits := speak(t, vip)
	waits.(*net.TCPConn).CloseWrite()
	s.becomesMetric(1, "usher_connections_waiting")
	gone := speak(t, vip)
	s.becomesMetric(2, "usher_connections_waiting")
	hangUp(gone) // by the time that this is seen, the other was looked at too
	s.becomesMetric(1, "usher_connections_waiting")
	first.Close()
	wantEcho(t, waits)
}

func TestAClientGoesThatAnEndpointIsDialledFor(t *testing.T) {
	s := newScene(t)
	silent := blackhole(t)
	s.set(with(asking("connect-timeout=1m", "total-connect-timeout=5m"), silent)...)
	s.settled(1, 1)
	hangUp(speak(t, vip))
	wantClientAbort(t, s.record())
	s.idle()
}

// It has sent something, which is not answered: that is a connection that was reset.
func TestAClientGoesThatAnotherEndpointIsDialledFor(t *testing.T) {
	p := &script{order: nil}
	s := newScene(t, p.is)
	p.reorder(serveTCP(t, crash), blackhole(t))
	s.set(with(asking("retry-on=reset-early", "connect-timeout=1m", "total-connect-timeout=5m"), p.order...)...)
	s.settled(1, 2)
	client := speak(t, vip)
	s.eventually("the second endpoint is dialled", func() error {
		if n := p.picks.Load(); n != 2 {
			return fmt.Errorf("%d picks", n)
		}
		return nil
	})
	hangUp(client)
	if r := s.record(); r.Reason != observe.ClientReset || r.ClientClose != observe.CloseRST {
		t.Errorf("record %+v", r)
	}
	p.wantAllDone(t)
}
