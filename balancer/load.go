package balancer

import (
	"net/netip"
	"sync/atomic"
)

// load counts the connections to one endpoint.
type load struct {
	active atomic.Int64
	done   func(Outcome) // made once: a pick allocates nothing
}

func newLoad() *load {
	l := new(load)
	l.done = func(Outcome) { l.active.Add(-1) }
	return l
}

func (l *load) busy() bool { return l.active.Load() > 0 }

func (l *load) begin(e Endpoint) Pick {
	l.active.Add(1)
	return Pick{Endpoint: e, Done: l.done}
}

// counter is a state that wants to know of each connection.
type counter interface {
	state
	begin(Endpoint) Pick
}

// counted is what Pickers that count connections have in common.
type counted[S counter] struct {
	wheel
	states []S // of the endpoints
	byAddr map[netip.AddrPort]S
}

func newCounted[S counter](endpoints []Endpoint, m *memory[S]) counted[S] {
	c := counted[S]{newWheel(endpoints), m.of(endpoints), make(map[netip.AddrPort]S, len(endpoints))}
	for i := range endpoints {
		c.byAddr[endpoints[i].Addr] = c.states[i]
	}
	return c
}

// begin makes the pick of the endpoint with the number i, -1 for none.
func (c *counted[S]) begin(i int) (Pick, error) {
	if i < 0 {
		return Pick{}, ErrNoEndpoints
	}
	return c.states[i].begin(c.endpoints[i]), nil
}

// Choose makes every Picker that counts a Chooser.
func (c *counted[S]) Choose(e Endpoint) Pick {
	s, ok := c.byAddr[e.Addr]
	if !ok {
		return Pick{Endpoint: e}
	}
	return s.begin(e)
}

// less tells whether a connection more would make the load of one endpoint
// less than that of another, each in proportion to its weight.
func less(active int64, weight uint64, otherActive int64, otherWeight uint64) bool {
	return (active+1)*int64(otherWeight) < (otherActive+1)*int64(weight)
}
