package balancer

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

const (
	// memoryTime is how long an endpoint without connections is remembered after
	// it was gone: long enough for one that fails its readiness probe for a while.
	memoryTime = 5 * time.Minute
	// memoryLimit is how many endpoints that are gone are remembered at most.
	memoryLimit = 4096
)

// state is what a Policy knows of one endpoint. It is safe for concurrent use.
type state interface {
	// busy tells whether the endpoint has connections.
	busy() bool
}

// memory is what a Policy knows of its endpoints, by address, however often
// they come and go. It is for Policy.Picker alone, and so for one goroutine at a
// time.
type memory[S state] struct {
	newState func() S
	known    map[netip.AddrPort]*remembered[S]
}

type remembered[S state] struct {
	state S
	gone  time.Time // zero for an endpoint of the newest Picker
}

func newMemory[S state](newState func() S) memory[S] {
	return memory[S]{newState, map[netip.AddrPort]*remembered[S]{}}
}

// of returns what is known of each endpoint. All others are gone.
func (m *memory[S]) of(endpoints []Endpoint) []S {
	now := time.Now()
	for _, k := range m.known {
		if k.gone.IsZero() {
			k.gone = now
		}
	}
	states := make([]S, len(endpoints))
	for i := range endpoints {
		k := m.known[endpoints[i].Addr]
		if k == nil {
			k = &remembered[S]{state: m.newState()}
			m.known[endpoints[i].Addr] = k
		}
		k.gone = time.Time{}
		states[i] = k.state
	}
	m.forget(now)
	return states
}

// forget drops what is not worth remembering. Connections that still last end
// with the state they have, which counts for nothing then.
func (m *memory[S]) forget(now time.Time) {
	var gone []netip.AddrPort
	for addr, k := range m.known {
		switch {
		case k.gone.IsZero():
		case now.Sub(k.gone) >= memoryTime && !k.state.busy():
			delete(m.known, addr)
		default:
			gone = append(gone, addr)
		}
	}
	if len(gone) <= memoryLimit {
		return
	}
	slices.SortFunc(gone, m.lessWorth)
	for _, addr := range gone[:len(gone)-memoryLimit*3/4] { // more than need be, not to sort at every change
		delete(m.known, addr)
	}
}

// lessWorth sorts the idle before the busy, and those gone for longer first.
func (m *memory[S]) lessWorth(a, b netip.AddrPort) int {
	one, other := m.known[a], m.known[b]
	if busy := one.state.busy(); busy != other.state.busy() {
		if busy {
			return 1
		}
		return -1
	}
	return cmp.Or(one.gone.Compare(other.gone), a.Compare(b))
}
