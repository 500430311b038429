package proxier

import (
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
)

// asked is a capture that counts what it is asked, and whose sockets all serve.
type asked struct {
	capture
	answers int
}

func (a *asked) answer(*Port, *socket, *nodeState) answer { a.answers++; return serving }

// renewals tells how often something updates a listener in earnest.
func renewals(t *testing.T, change func(*Port)) (*listener, *asked, func(port *Port, node *nodeState, now time.Time) (renewed bool, next time.Duration)) {
	c := newCrowd(t, 0)
	capture := &asked{capture: &bind{}}
	c.proxier.data.capture = capture
	port := crowdPort(0)
	change(port)
	l := newListener(c.proxier.data, port.Key, c.proxier.sharedPort(port))
	l.sockets = []*socket{{addr: freeAddr(t)}}
	stream, err := openStream(l.sockets[0].addr)
	if err != nil {
		t.Fatal(err)
	}
	l.sockets[0].stream = stream
	t.Cleanup(l.close)
	return l, capture, func(port *Port, node *nodeState, now time.Time) (bool, time.Duration) {
		t.Helper()
		before := capture.answers
		next, err := l.update(port, l.sockets, node, now)
		if err != nil {
			t.Fatal(err)
		}
		return capture.answers > before, next
	}
}

func TestAPortThatHasNotChangedCostsNothing(t *testing.T) {
	l, _, update := renewals(t, func(*Port) {})
	node := func(local string) *nodeState {
		return &nodeState{clients: &clients{local: map[netip.Addr]bool{netip.MustParseAddr(local): true}}}
	}
	port, now := crowdPort(0), time.Now()
	again := *port
	for _, step := range []struct {
		what string
		port *Port
		node *nodeState
		want bool
	}{
		{"the first time", port, node("192.0.2.1"), true},
		{"nothing", port, node("192.0.2.1"), false},
		{"another Port", &again, node("192.0.2.1"), true},
		{"nothing again", &again, node("192.0.2.1"), false},
		{"another address of the node", &again, node("192.0.2.2"), true},
		{"and nothing", &again, node("192.0.2.2"), false},
	} {
		if got, _ := update(step.port, step.node, now); got != step.want {
			t.Errorf("%s: renewed %v, want %v", step.what, got, step.want)
		}
		now = now.Add(time.Hour)
	}
	// What comes from elsewhere.
	last := node("192.0.2.2")
	l.restless.Store(true)
	if got, _ := update(&again, last, now); !got {
		t.Error("what a connection asks for is not done")
	}
	if got, _ := update(&again, last, now); got {
		t.Error("it is done twice")
	}
	byInterface := func() *nodeState { return &nodeState{clients: &clients{interfaces: []string{"cni0"}}} }
	for range 2 {
		if got, _ := update(&again, byInterface(), now); !got {
			t.Error("what is behind an interface is not looked at again")
		}
	}
	update(&again, last, now)
	l.updated.failed = true
	if got, _ := update(&again, last, now); !got {
		t.Error("what has failed is not tried again")
	}
}

// What happens to connections and endpoints makes a listener look at them again.
func TestWhatMakesAListenerRestless(t *testing.T) {
	drains := func(p *Port) { p.Settings.Drain.Timeout = 0 }
	l, _, update := renewals(t, drains)
	port := crowdPort(0)
	drains(port)
	update(port, &nodeState{clients: &clients{}}, time.Now())
	c := &connection{listener: l, record: &observe.Record{}}
	c.record.SetBackend(port.Cluster.Endpoints[0])
	c.connected(nil)
	if l.restless.Load() {
		t.Error("a connection to an endpoint of the Port makes it so")
	}
	c.record.SetBackend(balancer.Endpoint{Addr: netip.MustParseAddrPort("10.9.9.9:8080")})
	c.connected(nil)
	if !l.restless.Swap(false) {
		t.Error("a connection to an endpoint that has left does not")
	}
	change := outlier.Change{Endpoint: port.Cluster.Endpoints[0].Addr}
	l.healthChanged(change)
	if l.restless.Load() {
		t.Error("the health of a TCP endpoint does, which its Pickers follow by themselves")
	}
	l.key.Protocol = udpProtocol
	l.healthChanged(change)
	if !l.restless.Load() {
		t.Error("that of a UDP endpoint does not: its sessions stay with it")
	}
}

// The files that a UDP socket is read from are none for connections.
func TestReadersTakeFiles(t *testing.T) {
	p := newCrowd(t, 0).proxier
	port := crowdPort(0)
	port.Protocol = udpProtocol
	before := p.data.connections.files()
	s, err := newListener(p.data, port.Key, p.sharedPort(port)).open(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := before - p.data.connections.files(); n != p.data.packets.Readers() {
		t.Errorf("%d files are taken, want %d", n, p.data.packets.Readers())
	}
	s.close(observe.Shutdown)
	if n := p.data.connections.files(); n != before {
		t.Errorf("%d files are free, there were %d", n, before)
	}
}

// Its newcomers grow all the same.
func TestAPortThatHasNotChangedGrows(t *testing.T) {
	grows := func(p *Port) { p.Settings.SlowStart = 10 * time.Second }
	l, _, update := renewals(t, grows)
	node, now, port := &nodeState{clients: &clients{}}, time.Now(), crowdPort(0)
	grows(port)
	update(port, node, now)
	more := *port
	more.Cluster.Endpoints = append(more.Cluster.Endpoints[:5:5], balancer.Endpoint{Addr: netip.MustParseAddrPort("10.9.9.9:8080")})
	for _, step := range []struct {
		at     time.Duration
		renew  bool
		weight int
		next   time.Duration
	}{
		{0, true, 1, time.Second}, {300 * time.Millisecond, false, 1, 700 * time.Millisecond}, {time.Second, true, 2, time.Second},
		{5 * time.Second, true, 6, time.Second}, {5500 * time.Millisecond, false, 6, 500 * time.Millisecond},
		{10 * time.Second, true, 10, 0}, {time.Hour, false, 10, 0},
	} {
		renewed, next := update(&more, node, now.Add(step.at))
		weight := l.current.Load().weighed.cluster[5].Weight
		if renewed != step.renew || next != step.next || weight != step.weight {
			t.Errorf("after %s: renewed %v, weight %d, next in %s; want %+v", step.at, renewed, weight, next, step)
		}
	}
}

// Both families of a ServicePort share; the last one that goes takes it along.
func TestSharedPortGoesWithItsLastListener(t *testing.T) {
	p := newCrowd(t, 0).proxier
	port := crowdPort(0)
	var list []*listener
	for range 3 { // of two families, and one that came back while its connections last
		list = append(list, newListener(p.data, port.Key, p.sharedPort(port)))
	}
	for i, l := range list {
		if p.shared[port.ServicePort] != l.shared {
			t.Fatalf("%d listeners of it are left, and it is gone", len(list)-i)
		}
		p.forgetShared(l.key)
	}
	if len(p.shared) > 0 {
		t.Error("it is left without listeners")
	}
}

// A set that never had endpoints costs nothing; one that had has a Picker of its policy.
func TestSetsWithoutEndpoints(t *testing.T) {
	l, _, update := renewals(t, func(*Port) {})
	node, now, port := &nodeState{clients: &clients{}}, time.Now(), crowdPort(0)
	update(port, node, now)
	pickers := &l.current.Load().pickers
	if _, err := pickers.local.Pick(balancer.Request{}); pickers.local != (nobody{}) || err != balancer.ErrNoEndpoints {
		t.Errorf("the local set has %T, which says %v", pickers.local, err)
	}
	none := *port
	none.Cluster.Endpoints = nil
	update(&none, node, now)
	if _, err := l.current.Load().pickers.cluster.Pick(balancer.Request{}); err != balancer.ErrNoEndpoints {
		t.Errorf("without endpoints: %v", err)
	}
}
