package proxier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// settled waits until a pass has been made that serves so many ports, the one of
// them with so many endpoints.
func (s *scene) settled(ports, endpoints int) {
	s.t.Helper()
	s.eventually("the pass", func() error {
		n, _ := s.metric("usher_listeners")
		usable, _ := s.metric("usher_endpoints", "state", "usable")
		if int(n) != ports || int(usable) != endpoints {
			return fmt.Errorf("there are %g ports and %g endpoints", n, usable)
		}
		return nil
	})
}

// As long as clients are sent to an endpoint, their connections do not end.
func TestConnectionsToTheLastEndpointThatTerminates(t *testing.T) {
	s := newScene(t)
	old := serveTCP(t, echoes)
	web := asking("drain-timeout=0")
	s.set(web, end(old))
	client := s.connectTo(vip)
	s.set(web, end(old, is(false, true, true)))
	s.wantTold("web", old.String()+" in [cluster]: terminating, still serving while none is ready, nothing speaks against it")
	ping(t, client)
	ping(t, s.connectTo(vip))
	s.set(web, end(old, is(false, true, true)), end(serveTCP(t, echoes)))
	client.SetDeadline(time.Now().Add(patience))
	wantReset(t, client)
	if r := s.record(); r.Reason != observe.EndpointRemoved {
		t.Errorf("record: %s", r.Reason)
	}
}

// On the node of an endpoint that terminates it is the last one of the local set. If no
// client gets that, this does not keep it.
func TestASetThatNobodyGetsKeepsNothing(t *testing.T) {
	s := newScene(t, onNode1)
	old, other := serveTCP(t, echoes), serveTCP(t, echoes)
	web := asking("drain-timeout=0")
	s.set(web, end(old, node("node-1")))
	client := s.connectTo(vip)
	s.set(web, end(old, node("node-1"), is(false, true, true)), end(other, node("node-2")))
	client.SetDeadline(time.Now().Add(patience))
	wantReset(t, client)
}

// A Service that wants an end where an endpoint is not ready has not said so for one
// that leaves.
func TestUnreadyIsNotLeft(t *testing.T) {
	s := newScene(t)
	web := asking("on-endpoint-unready=reset")
	s.set(with(web, serveTCP(t, echoes))...)
	client := s.connectTo(vip)
	s.set(web)
	s.settled(1, 0)
	ping(t, client)
}

// The deadline is kept though nothing happens then.
func TestADeadlineAfterTheServiceHasGone(t *testing.T) {
	s := newScene(t)
	s.set(with(asking("drain-timeout=1s"), serveTCP(t, echoes))...)
	client := s.connectTo(vip)
	s.set()
	s.refused(vip)
	ping(t, client)
	s.becomesMetric(0, "usher_endpoints", "service", "web", "state", "usable") // while it lasts
	wantReset(t, client)
	s.eventually("no series", func() error {
		s.set() // the next pass finds out that it is over
		if _, any := s.metric("usher_endpoints", "service", "web"); any {
			return errors.New("there are some")
		}
		return nil
	})
}

// What is counted of a Service is kept as long as it has a connection, however often it
// comes and goes.
func TestAServiceGoesTwice(t *testing.T) {
	s := newScene(t)
	web := with(service("web", vip), serveTCP(t, echoes))
	active := func(want float64) {
		t.Helper()
		s.becomesMetric(want, "usher_connections_active", "service", "web")
	}
	var clients []net.Conn
	for range 2 {
		s.set(web...)
		clients = append(clients, s.connectTo(vip))
		s.set()
		s.settledGone()
	}
	active(2)
	clients[0].Close()
	active(1)
	s.set(with(service("other", testVIP(2)))...)
	s.settled(1, 0) // the first of the two is forgotten
	active(1)
	clients[1].Close()
	s.eventually("no series", func() error {
		s.set()
		if _, any := s.metric("usher_connection_closes_total", "service", "web"); any {
			return errors.New("there are some")
		}
		return nil
	})
}

// settledGone waits for a pass that serves nothing.
func (s *scene) settledGone() {
	s.t.Helper()
	s.becomesMetric(0, "usher_listeners")
}

// A connection that ends just when a departure begins is not waited for.
func TestEndsAsADepartureBegins(t *testing.T) {
	for range 100 {
		all := newConnections(0, func() int { return 0 })
		l := &listener{dataPath: &dataPath{connections: all}}
		var list []*connection
		for range 500 {
			one := &connection{listener: l, record: &observe.Record{}}
			list = append(list, one)
			all.add(one)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for _, one := range list {
				one.goes()
			}
		}()
		d, _ := all.depart()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := d.wait(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-ended
	}
}

func TestChecksEndWithTheirService(t *testing.T) {
	s := newScene(t)
	s.set(with(asking("health-check=tcp"), newBackend(t).addr)...)
	s.served(vip)
	if n := s.proxier.data.prober.Stats().Waiting; n != 1 {
		t.Errorf("%d checks are planned", n)
	}
	s.set()
	s.eventually("no check", func() error {
		if n := s.proxier.data.prober.Stats().Waiting; n != 0 {
			return fmt.Errorf("%d are planned", n)
		}
		return nil
	})
}

// Whoever is about to connect to an endpoint when it leaves has its deadline, too.
func TestAConnectionIsMadeToAnEndpointThatHasLeft(t *testing.T) {
	for _, c := range []struct {
		name             string
		left             func(web *corev1.Service) []any
		ports, endpoints int
	}{
		{"the endpoint", func(web *corev1.Service) []any { return []any{web} }, 1, 0},
		{"the Service", func(*corev1.Service) []any { return nil }, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			endpoint := serveTCP(t, echoes)
			p := &script{order: []netip.AddrPort{endpoint}}
			s := newScene(t, p.is)
			web := asking("drain-timeout=0")
			s.set(with(web, endpoint)...)
			s.connectTo(vip).Close()
			s.record()
			p.when(func(balancer.Request) {
				s.set(c.left(web)...)
				s.settled(c.ports, c.endpoints)
			})
			wantResets(t)
			if r := s.record(); r.Reason != observe.EndpointRemoved || r.Backend().Addr != endpoint {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// An endpoint that has crashed is gone soon. Its connections are not ended for that
// while they are about to get another one.
func TestACrashedEndpointLeavesWhileItsConnectionIsReplayed(t *testing.T) {
	crashes, well := serveTCP(t, crash), serveTCP(t, echoes)
	p := &script{order: []netip.AddrPort{crashes, well}}
	s := newScene(t, p.is)
	web := asking("drain-timeout=0", "retry-on=reset-early", "passive-health=off")
	s.set(with(web, p.order...)...)
	s.begun(p)
	p.when(func(r balancer.Request) {
		if len(r.Tried) > 0 {
			s.set(with(web, well)...)
			s.settled(1, 1)
		}
	})
	client := speak(t, vip)
	wantEcho(t, client)
	client.Close()
	if r := s.record(); r.Reason != observe.OK || r.Backend().Addr != well {
		t.Errorf("record %+v", r)
	}
}
