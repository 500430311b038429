package policies

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/annotation"
)

// of is how many endpoints a policy is shown with. The bad ones are the first in order.
const of = 20

var refusing, flapping, slow = endpointAddr(1), endpointAddr(2), endpointAddr(3)

// silent is the bad one of a silence.
var silent = endpointAddr(1)

// A story is what has become of many connections.
type story struct {
	*crowd
	*site
	start time.Time
}

// settings are those of a Service that brings endpoints back fast.
func settings(policy string) annotation.Settings {
	s := annotation.Defaults()
	s.Balancer = policy
	s.Outlier.Passive.Base, s.Outlier.Passive.Max = time.Second, 2*time.Second
	return s
}

// A plan says how the story of a policy is to go.
type plan struct {
	policy  string
	bad     bool // some of the endpoints are
	clients int  // at a time
	lasts   time.Duration
	atLeast int           // connections, if it has to last longer for that
	repair  time.Duration // when the endpoint that refuses is repaired
	flap    time.Duration // for how long the one that flaps is up, and then down
}

// tell lets a plan happen.
func (p plan) tell(t testing.TB) *story {
	t.Helper()
	endpoints, addrs, end := newEndpoints(t, of)
	defer end()
	if p.bad {
		endpoints[0].down()
		endpoints[2].takes *= 10
	}
	return tell(t, settings(p.policy), addrs, p.lasts, func(ctx context.Context, clients *crowd) {
		var flaps sync.WaitGroup
		if p.bad {
			repair := time.AfterFunc(p.repair, func() { check(t, endpoints[0].up()) })
			defer repair.Stop()
			flaps.Go(func() { check(t, endpoints[1].flap(ctx, p.flap)) })
		}
		clients.inTurns(ctx, p.clients, p.atLeast)
		flaps.Wait()
	})
}

// newEndpoints returns the first n endpoints, and what ends them. They are up.
func newEndpoints(t testing.TB, n int) (all []*endpoint, addrs []netip.AddrPort, end func()) {
	t.Helper()
	for i := range n {
		e := &endpoint{addr: endpointAddr(i + 1), takes: *answer}
		must(t, e.up())
		all, addrs = append(all, e), append(addrs, e.addr)
	}
	return all, addrs, func() {
		for _, e := range all {
			e.down()
			e.all.Wait()
		}
	}
}

// A silence is a plan for four endpoints, the first of which answers no SYN.
type silence struct {
	settings  annotation.Settings
	perSecond int // new clients
	lasts     time.Duration
}

func (p silence) tell(t testing.TB) *story {
	t.Helper()
	endpoints, addrs, end := newEndpoints(t, 4)
	defer end()
	endpoints[0].down()
	hole, err := newBlackhole(addrs[0])
	must(t, err)
	defer hole.close()
	return tell(t, p.settings, addrs, p.lasts, func(ctx context.Context, clients *crowd) {
		clients.steadily(ctx, p.perSecond)
	})
}

// tell serves the endpoints while clients come, until all of these are gone.
func tell(t testing.TB, settings annotation.Settings, endpoints []netip.AddrPort, lasts time.Duration, come func(context.Context, *crowd)) *story {
	t.Helper()
	site, err := serve(t, settings, endpoints)
	must(t, err)
	s := &story{crowd: &crowd{}, site: site, start: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), lasts)
	defer cancel()
	come(ctx, s.crowd)
	must(t, s.stop())
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// check is must for goroutines of a test.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
