package proxier

import (
	"cmp"
	"net/netip"
	"sync"
)

// claim is a frontend as at most one Service port may have it.
type claim struct {
	addr     netip.Addr // zero: a NodePort
	port     uint16
	family   Family
	protocol string
}

// wish is a claim that a Service port makes.
type wish struct {
	claim
	plan *plan
	port string // name of the Service's port
	late bool   // no ClusterIP
	rank int    // among the wishes of its Service
	next *wish  // that would have it if this one were not
}

func (w *wish) servicePort() ServicePort {
	return ServicePort{w.plan.name.namespace, w.plan.name.name, w.port, w.protocol}
}

// before decides who of two gets what both claim: a ClusterIP goes before all else,
// as the cluster allocates those and the others are written by whoever may write a
// Service; then the older Service comes first.
func (w *wish) before(other *wish) bool {
	if w.late != other.late {
		return other.late
	}
	return cmp.Or(compareAge(w.plan, other.plan), cmp.Compare(w.rank, other.rank)) < 0
}

// claims are all that is claimed, each with those who do, the one first who has it.
// The reconcile loop changes them; asking is safe for concurrent use.
type claims struct {
	mu sync.RWMutex
	by map[claim]*wish
}

func newClaims() *claims { return &claims{by: map[claim]*wish{}} }

// has says whether somebody has it.
func (c *claims) has(one claim) bool { return c.owner(one) != nil }

// owner is the wish that comes true, nil if there is none.
func (c *claims) owner(one claim) *wish {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.by[one]
}

func (c *claims) add(w *wish) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.by[w.claim]
	if first == nil || w.before(first) {
		w.next, c.by[w.claim] = first, w
		return
	}
	for first.next != nil && !w.before(first.next) {
		first = first.next
	}
	w.next, first.next = first.next, w
}

func (c *claims) remove(w *wish) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.by[w.claim]
	switch {
	case first == w && w.next == nil:
		delete(c.by, w.claim)
	case first == w:
		c.by[w.claim] = w.next
	default:
		for first.next != w {
			first = first.next
		}
		first.next = w.next
	}
}
