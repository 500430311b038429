package balancer

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// AffinityResult is how session affinity led to a pick.
type AffinityResult string

const (
	// AffinityNone is a pick without session affinity, or for a client whose
	// address is not known.
	AffinityNone AffinityResult = ""
	// AffinityHit is the endpoint that the client was sent to before.
	AffinityHit AffinityResult = "hit"
	// AffinityNew is a client not seen before, too long ago, or forgotten to
	// make room for others.
	AffinityNew AffinityResult = "new"
	// AffinityBroken is another endpoint than the client had, because that one
	// is not eligible any more or was tried. Every retry of a connection is
	// one, unless the client was bound to a third endpoint meanwhile.
	AffinityBroken AffinityResult = "broken"
)

// Chooser is a Picker that wants to know of every connection, also of those
// that session affinity sends to an endpoint without asking it, and of those that
// an earlier process has made. A policy that counts connections or measures
// endpoints needs it; others do without. A Picker that asks another one passes
// it on.
type Chooser interface {
	Picker
	// Choose is Pick with the choice already made. The endpoint is the one in the
	// Pick returned; if it is not one of the Picker's set, which may have changed
	// meanwhile, nothing is counted. What holds for Pick holds here: any goroutine,
	// no waiting, Done is called exactly once.
	//
	// Whoever adopts a connection that was answered in an earlier process calls
	// Pick.Answered with what the answer took there: until it is called an endpoint
	// counts as one from which no answer has come.
	Choose(Endpoint) Pick
}

// Affinity remembers which endpoint each client of one Service port was sent
// to: the memory behind sessionAffinity ClientIP. Clients are told apart by
// their IP address alone, and all Pickers of an Affinity share what it knows:
// those of the Service's Cluster and Local endpoints, old ones and new ones.
// It takes about 200 bytes per client. Safe for concurrent use.
type Affinity struct {
	start time.Time // times are relative to it: only the monotonic clock counts

	mu      sync.Mutex
	clients *simplelru.LRU[netip.Addr, binding]
	evicted uint64
}

// binding is the endpoint of a client.
type binding struct {
	endpoint netip.AddrPort
	used     time.Duration // when the client last connected, since Affinity.start
}

// NewAffinity returns an empty memory for at most limit clients, and for one if
// limit is less. The client that has not connected for the longest time is
// forgotten first.
func NewAffinity(limit int) *Affinity {
	clients, _ := simplelru.NewLRU[netip.Addr, binding](max(limit, 1), nil) // fails below 1 only
	return &Affinity{start: time.Now(), clients: clients}
}

// Len returns how many clients are remembered. Some may be so for longer than
// the timeout: they are forgotten when new ones come.
func (a *Affinity) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.clients.Len()
}

// Evicted returns how many clients were forgotten within their timeout, because
// the limit was reached. It only grows.
func (a *Affinity) Evicted() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.evicted
}

// Picker returns a Picker that sends a client where it was sent before, if that
// was less than timeout ago, is one of endpoints and was not tried. Otherwise
// it asks next, and the client is bound to the answer at once. Every pick for a
// client starts its timeout anew, as every new connection does in kube-proxy's
// iptables and nftables modes. The timeout of the Picker that is asked counts,
// not that of the one that was asked before.
//
// Pick.Affinity tells which it was. For an endpoint that the client had before,
// next is not asked, and only told if it is a Chooser. A client whose address
// is not known is left to next.
//
// next is a Picker of the same endpoints, and not one of this Affinity. Unlike
// others this Picker takes a short lock, and holds it while it asks next: first
// connections of a client that come together get one endpoint, by one turn.
func (a *Affinity) Picker(next Picker, endpoints []Endpoint, timeout time.Duration) Picker {
	index := make(map[netip.AddrPort]int, len(endpoints))
	for i, e := range endpoints {
		index[e.Addr] = i
	}
	chooser, _ := next.(Chooser)
	return &affinityPicker{memory: a, next: next, chooser: chooser, endpoints: endpoints, index: index, timeout: timeout}
}

type affinityPicker struct {
	memory    *Affinity
	next      Picker
	chooser   Chooser // next if it is one, else nil
	endpoints []Endpoint
	index     map[netip.AddrPort]int // of endpoints
	timeout   time.Duration
}

func (p *affinityPicker) Pick(r Request) (Pick, error) {
	if !r.Client.IsValid() {
		return p.next.Pick(r)
	}
	pick, err := p.pickOrBind(r)
	if pick.Affinity == AffinityHit && p.chooser != nil {
		pick = p.chooser.Choose(pick.Endpoint)
		pick.Affinity = AffinityHit
	}
	return pick, err
}

// Choose tells next, if that is to know. The choice is none of this Affinity: who is bound
// to which endpoint stays as it is.
func (p *affinityPicker) Choose(e Endpoint) Pick {
	if p.chooser == nil {
		return Pick{Endpoint: e}
	}
	return p.chooser.Choose(e)
}

// pickOrBind looks the client up and binds it under one lock.
func (p *affinityPicker) pickOrBind(r Request) (Pick, error) {
	client := r.Client.Unmap()
	a := p.memory
	a.mu.Lock()
	defer a.mu.Unlock() // next may panic
	now := time.Since(a.start)

	result := AffinityNew
	// Peek leaves the order alone, which has to be that of binding.used.
	if b, known := a.clients.Peek(client); known && now-b.used < p.timeout {
		if e, ok := p.eligible(b.endpoint, r.Tried); ok {
			a.clients.Add(client, binding{b.endpoint, now})
			return Pick{Endpoint: e, Affinity: AffinityHit}, nil
		}
		result = AffinityBroken
	}
	pick, err := p.next.Pick(r)
	if err != nil {
		return Pick{}, err
	}
	a.forgetExpired(now, p.timeout)
	if a.clients.Add(client, binding{pick.Endpoint.Addr, now}) {
		a.evicted++
	}
	pick.Affinity = result
	return pick, nil
}

func (p *affinityPicker) eligible(addr netip.AddrPort, tried []netip.AddrPort) (Endpoint, bool) {
	i, ok := p.index[addr]
	if !ok || slices.Contains(tried, addr) {
		return Endpoint{}, false
	}
	return p.endpoints[i], true
}

// forgetExpired forgets the longest unused clients if their time is over: no
// more than two, to be quick, and no less, to catch up with what is added.
func (a *Affinity) forgetExpired(now, timeout time.Duration) {
	for range 2 {
		client, b, ok := a.clients.GetOldest()
		if !ok || now-b.used < timeout {
			return
		}
		a.clients.Remove(client)
	}
}
