package balancer

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
)

// maglevSize is the number of slots in a table: the prime of the paper, and of
// Envoy. It is the same for any number of endpoints, because another size would
// move every client.
const maglevSize = 65_537

// maglev sends a client, told by its IP address, to the endpoint that it had
// before, without remembering anything: on every node, after a restart, and but
// for few when endpoints come and go. Use it for caches and for sessions that
// may break now and then; session affinity is exact, and costs memory for each
// client. Nothing is even where few clients have most connections.
//
// Weights are numbers of slots of 65,537, one at least. A Picker takes 128 KiB,
// and about two milliseconds to make. A client that is not known gets an endpoint at
// random.
//
// Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
// 3.4.
type maglev struct{}

func (maglev) Picker(endpoints []Endpoint) Picker {
	p := &maglevPicker{wheel: newWheel(endpoints), hashes: make([]uint64, len(endpoints))}
	for i := range endpoints {
		p.hashes[i] = hashOf(endpoints[i].Addr.Addr(), endpoints[i].Addr.Port())
	}
	if len(endpoints) > 1 {
		p.table = p.fill()
	}
	return p
}

type maglevPicker struct {
	wheel
	hashes []uint64 // of the endpoints
	table  []uint16 // the endpoint of each slot; nil where there is no choice
}

func (p *maglevPicker) Pick(r Request) (Pick, error) {
	if !r.Client.IsValid() {
		return p.pickRandom(r)
	}
	client := hashOf(r.Client, 0)
	if p.table != nil {
		if e := p.endpoints[p.table[client%maglevSize]]; !slices.Contains(r.Tried, e.Addr) {
			return Pick{Endpoint: e}, nil
		}
	}
	return p.next(client, r)
}

// next picks by rendezvous hashing: a client has its own order of the endpoints,
// in which one that was tried, or is gone, does not change that of the others.
// So the clients of a dead endpoint go to all others, by weight, and each of
// them to the same one every time.
func (p *maglevPicker) next(client uint64, r Request) (pick Pick, err error) {
	least, err := math.Inf(1), ErrNoEndpoints
	for i, hash := range p.hashes {
		if slices.Contains(r.Tried, p.endpoints[i].Addr) {
			continue
		}
		// -ln(u)/weight is least for an endpoint as often as it has weight, for u
		// evenly between 0 and 1.
		u := (float64(mix(client^hash)>>11) + 0.5) / (1 << 53)
		if score := -math.Log(u) / float64(p.width(i)); score < least {
			least, pick, err = score, Pick{Endpoint: p.endpoints[i]}, nil
		}
	}
	return pick, err
}

// noEndpoint is an empty slot; endpoints beyond that many are left to next.
const noEndpoint = math.MaxUint16

// fill lets the endpoints take slots by turns, each in its own order of all
// slots, until none is empty. The heaviest has a turn in every round, the others
// in as many as their weight is of that. When they have their turns does not
// depend on who else is there, so few slots change hands with the endpoints.
func (p *maglevPicker) fill() []uint16 {
	table := slices.Repeat([]uint16{noEndpoint}, maglevSize)
	all := make([]claimant, min(len(p.endpoints), noEndpoint))
	heaviest := uint64(1)
	for i := range all {
		all[i] = newClaimant(p.hashes[i], p.width(i))
		heaviest = max(heaviest, all[i].weight)
	}
	due := make([]int32, maglevSize+1) // the first to have a turn in a round, plus 1
	for i := range all {
		all[i].enqueue(due, 0, int32(i))
	}
	for round, left := 0, maglevSize; ; round++ {
		for i := due[round] - 1; i >= 0; {
			c := &all[i]
			this, next := i, c.next-1
			table[c.claim(table)] = uint16(this)
			if left--; left == 0 {
				return table
			}
			c.enqueue(due, c.round(heaviest), this)
			i = next
		}
	}
}

// claimant is an endpoint in the filling of a table.
type claimant struct {
	weight       uint64
	turns        uint64 // that it had
	offset, skip uint32 // its order of the slots: offset, offset+skip, offset+2*skip...
	next         int32  // who has a turn after it in the same round, plus 1
}

func newClaimant(hash, weight uint64) claimant {
	return claimant{weight: weight, offset: uint32(hash % maglevSize), skip: uint32(mix(hash)%(maglevSize-1)) + 1}
}

// claim returns the first empty slot in the claimant's order.
func (c *claimant) claim(table []uint16) (slot uint32) {
	for {
		slot = c.offset
		c.offset = (c.offset + c.skip) % maglevSize
		if table[slot] == noEndpoint {
			c.turns++
			return slot
		}
	}
}

// round returns the round of the claimant's next turn.
func (c *claimant) round(heaviest uint64) uint64 {
	return min((c.turns*heaviest+c.weight-1)/c.weight, maglevSize)
}

// enqueue gives claimant i a turn in a round.
func (c *claimant) enqueue(due []int32, round uint64, i int32) {
	c.next, due[round] = due[round], i+1
}

// hashOf hashes an address and a port. It is the same everywhere and always:
// nodes have to agree.
func hashOf(addr netip.Addr, port uint16) uint64 {
	b := addr.As16() // an IPv4 address and the same one mapped to IPv6 are one
	return mix(mix(binary.BigEndian.Uint64(b[:8])+uint64(port)+goldenStep) ^ binary.BigEndian.Uint64(b[8:]))
}

// mix makes every bit of the result depend on every bit of x (the finalizer of
// splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
