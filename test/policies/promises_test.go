package policies

import (
	"net/netip"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
)

// late is how long after an ejection those may come to the endpoint that had chosen before.
const late = 500 * time.Millisecond

// Whatever the policy, clients do not notice that endpoints refuse, come and go, or are slow.
func TestNoConnectionFails(t *testing.T) {
	for _, name := range balancer.Names() {
		t.Run(name, func(t *testing.T) {
			s := plan{
				policy: name, bad: true, clients: 8, atLeast: 300,
				lasts: time.Second, repair: time.Hour, flap: 300 * time.Millisecond,
			}.tell(t)
			for _, err := range s.failures {
				t.Error(err)
			}
			n := s.refused(refusing)
			if n == 0 {
				t.Error("the endpoint that refuses was never met: this test says nothing")
			}
			if n >= annotation.Defaults().Outlier.Passive.Failures {
				s.wantEjected(t, refusing)
			}
			t.Logf("%d connections, refused %d times by one endpoint and %d times by another", len(s.records), n, s.refused(flapping))
		})
	}
}

// wantEjected checks that an endpoint was left out, and not chosen any more.
func (s *story) wantEjected(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	ejected, found := s.ejection[addr.String()]
	if !found {
		t.Errorf("%s was not ejected", addr)
		return
	}
	if last := s.lastBefore(addr, time.Now()); last.After(ejected.Add(late)) {
		t.Errorf("%s is chosen %s after it was ejected", addr, last.Sub(ejected))
	}
}

// Nobody waits for an endpoint that is silent, and it is found out though others are faster.
func TestHedgingHidesASilentEndpoint(t *testing.T) {
	hedged := settings("round-robin")
	hedged.Retry.Hedge, hedged.Retry.Timeout, hedged.Retry.Total = 20*time.Millisecond, time.Second, patience
	hedged.Outlier.Passive.Base, hedged.Outlier.Passive.Max = time.Hour, time.Hour
	s := silence{hedged, 50, 2500 * time.Millisecond}.tell(t)
	for _, err := range s.failures {
		t.Error(err)
	}
	s.wantEjected(t, silent)
	met := false
	for _, a := range s.attempts(silent) {
		met = met || a.result == observe.Superseded
		if a.result == observe.ConnectTimeout {
			t.Error("a connection has waited for the silent endpoint until its timeout")
		}
	}
	if !met {
		t.Error("no other attempt was faster than that to the silent endpoint: this test says nothing")
	}
}

func TestMaglevMovesFewClients(t *testing.T) {
	m := move(t, "maglev", false)
	if share := 100 * float64(m.leaves) / many; share > 3 || share < 0.5 {
		t.Errorf("%.2f %% of the clients move when one of 100 endpoints leaves, want about 1 and at most 3", share)
	}
	if m.back != 0 || m.restart != 0 {
		t.Errorf("%d clients are elsewhere when it is back, %d after a restart, want none", m.back, m.restart)
	}
}

// With session affinity only those move whose endpoint has left.
func TestAffinityMovesNobodyElse(t *testing.T) {
	if m := move(t, "round-robin", true); m.leaves != many/100 {
		t.Errorf("%d of %d clients move when one of 100 endpoints leaves, want those of it", m.leaves, many)
	}
}
