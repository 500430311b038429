package limit

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// endpoints has the connections to each endpoint of a Service port. It is safe for
// concurrent use.
type endpoints struct {
	most atomic.Int64 // to each; 0: any number, and they are not counted

	mu    sync.Mutex
	n     map[netip.AddrPort]int
	queue list.List // of *place, first come first
}

// place is that of a connection which waits for one of several endpoints.
type place struct {
	*list.Element
	full  []netip.AddrPort
	turn  chan struct{} // closed, under the lock, when it has got one
	got   netip.AddrPort
	leave func()
}

func nothing() {}

// set changes how many each may have. Those waiting are judged anew.
func (e *endpoints) set(most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.most.Store(int64(max(most, 0)))
	var next *list.Element
	for p := e.queue.Front(); p != nil; p = next {
		next = p.Next()
		e.tryAll(p.Value.(*place))
	}
}

// enter admits a connection to an endpoint, false if it is full.
func (e *endpoints) enter(addr netip.AddrPort) (leave func(), ok bool) {
	if e.most.Load() == 0 {
		return nothing, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.add(addr)
}

// restore counts a connection in, be the endpoint full.
func (e *endpoints) restore(addr netip.AddrPort) (leave func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.most.Load() == 0 {
		return nothing
	}
	return e.count(addr)
}

func (e *endpoints) add(addr netip.AddrPort) (leave func(), ok bool) {
	most := int(e.most.Load())
	if most == 0 {
		return nothing, true
	}
	if e.n[addr] >= most {
		return nil, false
	}
	return e.count(addr), true
}

func (e *endpoints) count(addr netip.AddrPort) (leave func()) {
	if e.n == nil {
		e.n = map[netip.AddrPort]int{}
	}
	e.n[addr]++
	return func() { e.leave(addr) }
}

// leave makes room at an endpoint, for the first one that waits for it.
func (e *endpoints) leave(addr netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n[addr]--; e.n[addr] == 0 {
		if delete(e.n, addr); len(e.n) == 0 {
			e.n = nil // a map keeps the memory of the most that it ever held
		}
	}
	for p := e.queue.Front(); p != nil; p = p.Next() {
		if w := p.Value.(*place); slices.Contains(w.full, addr) {
			e.try(w, addr)
			return
		}
	}
}

// line makes a connection wait for one of these endpoints.
func (e *endpoints) line(full []netip.AddrPort) *place {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &place{full: full, turn: make(chan struct{})}
	p.Element = e.queue.PushBack(p)
	e.tryAll(p) // one may have been left since it was full; nobody waits for that one then
	return p
}

// unline takes out of the line who does not wait any more, and tells whether its turn
// had come.
func (e *endpoints) unline(p *place) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-p.turn:
		return true
	default:
		e.queue.Remove(p.Element)
		return false
	}
}

// changed ends the wait of all, with nothing.
func (e *endpoints) changed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.queue.Len() > 0 {
		e.give(e.queue.Front().Value.(*place), netip.AddrPort{}, nothing)
	}
}

func (e *endpoints) tryAll(p *place) {
	for _, addr := range p.full {
		if e.try(p, addr) {
			return
		}
	}
}

// try gives an endpoint to one that waits for it, if there is room.
func (e *endpoints) try(p *place, addr netip.AddrPort) bool {
	leave, ok := e.add(addr)
	if ok {
		e.give(p, addr, leave)
	}
	return ok
}

func (e *endpoints) give(p *place, addr netip.AddrPort, leave func()) {
	e.queue.Remove(p.Element)
	p.got, p.leave = addr, leave
	close(p.turn)
}
