package proxier

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/usher-proxy/usher/proxier/observe"
)

// picked is the record of a client that has been answered.
func (s *scene) picked() *observe.Record {
	s.t.Helper()
	for len(s.records) > 0 {
		<-s.records
	}
	if _, err := get(vip); err != nil {
		s.t.Fatal(err)
	}
	return s.record()
}

func wantPick(t *testing.T, r *observe.Record, pick string, candidates, eligible uint16) {
	t.Helper()
	if r.Pick.String() != pick || r.Candidates != candidates || r.Eligible != eligible {
		t.Errorf("picked as %s from %d of %d endpoints; want %s from %d of %d", r.Pick, r.Eligible, r.Candidates, pick, eligible, candidates)
	}
}

// A record tells why it was this endpoint, and how many there were to choose from.
func TestWhyAnEndpointIsPicked(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	s.set(with(asking("balancer=first"), a.addr)...)
	s.served(vip)
	wantPick(t, s.picked(), "first", 1, 1)

	web := asking("balancer=first")
	s.set(web, end(a.addr), end(b.addr, is(false, true, true)), end(freeAddr(t), is(false, false, false)))
	s.eventually("there are three", func() error { return wants(count(s.picked().Candidates), "3") })
	wantPick(t, s.picked(), "first", 3, 1)

	s.set(web, end(b.addr, is(false, true, true)))
	s.eventually("there is one", func() error { return wants(count(s.picked().Candidates), "1") })
	wantPick(t, s.picked(), observe.PickTerminating, 1, 1)
}

func count(n uint16) string { return string(rune('0' + n)) }

func TestAffinityPicks(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t), newBackend(t)
	web := sticky("web", vip, 100)
	s.set(with(web, a.addr)...)
	s.served(vip)
	wantPick(t, s.picked(), observe.PickAffinityHit, 1, 1)
	s.set(with(web, b.addr)...)
	var r *observe.Record
	s.eventually("the other one answers", func() error {
		r = s.picked()
		return wants(r.Backend().Addr.String(), b.addr.String())
	})
	wantPick(t, r, observe.PickAffinityBroken, 1, 1)
}

// Nobody else is left than one that is ill.
func TestTheLastResortIsTold(t *testing.T) {
	s := newScene(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "well")
			c.Close()
		}
	}()
	ill := freeAddr(t)
	s.set(with(asking("balancer=round-robin", "passive-health=consecutive-failures=2,base=1m,max=1m"), ill, addrPort(ln.Addr()))...)
	s.ejects(ill)
	s.eventually("it is left out", func() error {
		for _, port := range s.proxier.seen.Load().ports() {
			if !port.health.Out(string(ClusterSet), ill) {
				return errors.New("it is still picked")
			}
		}
		return nil
	})
	s.idle()
	ln.Close()
	<-served
	serveAt(t, ill, func(c net.Conn) { io.WriteString(c, "again") })
	r := s.picked()
	wantPick(t, r, observe.PickLastResort, 2, 2)
	wantResults(t, r, observe.BackendRefused, observe.OK)
}
