package main

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/usher-proxy/usher/balancer"
)

// shardSize is how many endpoints a tenant has.
const shardSize = 2

// byTenant gives each tenant, a /24 or /64 network of clients, a shard: two
// endpoints that it takes by the client's address. A tenant that breaks its endpoints
// breaks nobody's who shares neither of them. When both have failed the others are
// its reserve.
//
// It is a complete policy. There is nothing to remember, so the Policy is empty, and
// all there is to do is done by a Picker for one set of endpoints.
type byTenant struct{}

func (*byTenant) Picker(endpoints []balancer.Endpoint) balancer.Picker {
	return shards(endpoints)
}

// shards are the endpoints of a Service port.
type shards []balancer.Endpoint

// Pick is called by many goroutines at once, for every new connection: it only reads.
func (s shards) Pick(r balancer.Request) (balancer.Pick, error) {
	if len(s) == 0 {
		return balancer.Pick{}, balancer.ErrNoEndpoints
	}
	tenant := hash(network(r.Client).AsSlice())
	client := hash(r.Client.AsSlice())
	// The tenant says where its shard begins, the client with which of it to begin.
	// After the shard come the others in turn: an endpoint may be disliked, but asked
	// often enough each is returned once.
	for i := range s {
		at := i
		if i < shardSize && len(s) >= shardSize {
			at = (i + client%shardSize) % shardSize
		}
		e := s[(tenant%len(s)+at)%len(s)]
		if !slices.Contains(r.Tried, e.Addr) {
			return balancer.Pick{Endpoint: e}, nil
		}
	}
	return balancer.Pick{}, balancer.ErrNoEndpoints
}

// network is the tenant of a client; the zero Addr if its address is not known.
func network(client netip.Addr) netip.Addr {
	bits := 64
	if client.Is4() || client.Is4In6() {
		client, bits = client.Unmap(), 24
	}
	prefix, err := client.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return prefix.Addr()
}

func hash(b []byte) int {
	h := fnv.New32a()
	h.Write(b)
	return int(h.Sum32())
}
