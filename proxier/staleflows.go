package proxier

import (
	"errors"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/conntrack"
)

// staleFlows makes the kernel forget where it has sent the datagrams of UDP
// clients until now, when that is not where they have to go any more. It belongs
// to the reconcile loop.
type staleFlows struct {
	log         logrus.FieldLogger
	metrics     *kubeMetrics
	reconcilers map[Family]*conntrack.Reconciler
	told        map[Family]bool // that it cannot be done
}

func newStaleFlows(log logrus.FieldLogger, metrics *kubeMetrics, families []Family) *staleFlows {
	s := &staleFlows{log: log, metrics: metrics, reconcilers: map[Family]*conntrack.Reconciler{}, told: map[Family]bool{}}
	for _, family := range families {
		r, err := conntrack.New(iptables.Family(family))
		if err != nil {
			s.failed(family, err)
			continue
		}
		s.reconcilers[family] = r
	}
	return s
}

// datagrams are what UDP clients send to, by family, with the ports of ours
// that it is redirected to.
type datagrams map[Family]map[conntrack.Destination][]uint16

// They are those of the last pass unless something has changed.
func (p *Proxier) datagrams(served []*listener, node *nodeState, changed bool) datagrams {
	if p.flowsTo != nil && !changed {
		return p.flowsTo
	}
	d := datagrams{}
	p.flowsTo = d
	for _, family := range p.data.capture.families() {
		d[family] = map[conntrack.Destination][]uint16{}
	}
	for _, l := range served {
		if l.key.Protocol != udpProtocol {
			continue
		}
		for _, f := range l.current.Load().port.Frontends {
			ports, captured := p.data.capture.redirected(l, f)
			if !captured {
				continue
			}
			for _, addr := range f.addresses(l.key.Family, node) {
				d[l.key.Family][conntrack.Destination{Addr: addr, Port: f.Port}] = ports
			}
		}
	}
	return d
}

// addresses are those that clients dial.
func (f Frontend) addresses(family Family, node *nodeState) []netip.Addr {
	if f.Kind != NodePort {
		return []netip.Addr{f.Addr}
	}
	return node.serving(family)
}

// forget deletes what is stale, in the families whose rules have been written. It
// returns false if that has to be tried again.
func (s *staleFlows) forget(d datagrams, local map[netip.Addr]bool, failed map[Family]error) (ok bool) {
	ok = true
	for family, r := range s.reconcilers {
		if failed[family] != nil {
			continue
		}
		start := time.Now()
		deleted, err := r.Sync(d[family], local)
		s.metrics.reconciled(family, time.Since(start), deleted)
		if err != nil && !s.failed(family, err) {
			ok = false
		}
	}
	return ok
}

// failed tells what went wrong, and returns whether that is for good.
func (s *staleFlows) failed(family Family, err error) (forGood bool) {
	if !errors.Is(err, conntrack.ErrUnavailable) {
		s.log.WithError(err).Warn("UDP clients may still be where they were before; trying again")
		return false
	}
	if !s.told[family] {
		s.told[family] = true
		s.log.WithError(err).Warnf("%s: UDP clients that were there before a change of addresses may be lost until they pause", family)
	}
	return true
}

// close forgets what leads to this process, which ends: by ports of ours on the
// node's addresses.
func (s *staleFlows) close(local map[netip.Addr]bool) {
	s.forget(datagrams{}, local, nil)
	for _, r := range s.reconcilers {
		r.Close()
	}
}
