package balancer

import (
	"net/netip"
	"slices"
	"time"
)

// Foresight is a Picker that can tell what it would pick without picking. One that
// decides by chance, or by what every connection changes, tells what is certain. It is
// safe for concurrent use, and changes nothing.
type Foresight interface {
	Picker
	// Foresee returns the endpoints in the order in which a request would get them,
	// each after those before it have failed and if nobody else asks meanwhile, as far
	// as that is certain.
	Foresee(Request) []Endpoint
	// Share is the part of new connections, from 0 to 1, that an endpoint gets in the
	// long run; 0 if it gets none, or that is not fixed.
	Share(netip.AddrPort) float64
}

// foreseen is how many endpoints an order tells that has to be computed.
const foreseen = 16

// Share of a wheel goes by weight.
func (w *wheel) Share(addr netip.AddrPort) float64 {
	i := slices.IndexFunc(w.endpoints, func(e Endpoint) bool { return e.Addr == addr })
	if i < 0 {
		return 0
	}
	return float64(w.width(i)) / float64(w.end(len(w.endpoints)-1))
}

// Foresee knows of no order in chance.
func (p *randomPicker) Foresee(Request) []Endpoint { return nil }

// Foresee knows the next turn. Retries go by chance.
func (p *roundRobinPicker) Foresee(r Request) []Endpoint {
	if len(r.Tried) > 0 || len(p.endpoints) == 0 {
		return nil
	}
	return []Endpoint{p.endpoints[p.next(p.turn.Load()+1)]}
}

// Foresee picks again and again: nothing but the request matters.
func (p *maglevPicker) Foresee(r Request) (order []Endpoint) {
	if !r.Client.IsValid() {
		return nil // at random
	}
	tried := slices.Clone(r.Tried)
	for range foreseen {
		pick, err := p.Pick(Request{Client: r.Client, Tried: tried})
		if err != nil {
			break
		}
		order, tried = append(order, pick.Endpoint), append(tried, pick.Endpoint.Addr)
	}
	return order
}

// Foresee leaves out those that were tried.
func (p firstPicker) Foresee(r Request) []Endpoint {
	return slices.DeleteFunc(slices.Clone(p), func(e Endpoint) bool { return slices.Contains(r.Tried, e.Addr) })
}

// Share is all for the first.
func (p firstPicker) Share(addr netip.AddrPort) float64 {
	if len(p) > 0 && p[0].Addr == addr {
		return 1
	}
	return 0
}

// Of returns the endpoint that a client was sent to last and how long ago that was,
// whether or not its time is over; false if it is not remembered. It changes nothing.
func (a *Affinity) Of(client netip.Addr) (endpoint netip.AddrPort, ago time.Duration, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, known := a.clients.Peek(client.Unmap())
	if !known {
		return netip.AddrPort{}, 0, false
	}
	return b.endpoint, time.Since(a.start) - b.used, true
}

// Foresee tells the endpoint that the client is bound to, and after it what the Picker
// behind it would pick.
func (p *affinityPicker) Foresee(r Request) (order []Endpoint) {
	if addr, ago, known := p.memory.Of(r.Client); known && ago < p.timeout {
		if e, ok := p.eligible(addr, r.Tried); ok {
			order, r.Tried = []Endpoint{e}, append(slices.Clone(r.Tried), e.Addr)
		}
	}
	if next, ok := p.next.(Foresight); ok {
		order = append(order, next.Foresee(r)...)
	}
	return order
}

// Share is that of clients that are not bound yet.
func (p *affinityPicker) Share(addr netip.AddrPort) float64 {
	if next, ok := p.next.(Foresight); ok {
		return next.Share(addr)
	}
	return 0
}
