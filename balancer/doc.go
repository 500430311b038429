// Package balancer chooses the endpoint for a connection.
//
// A [Policy] is made once per Service port. Whenever the endpoints of that port
// change it makes a new [Picker], an immutable snapshot that connections ask
// without a lock:
//
//	policy, err := balancer.New("round-robin")
//	picker := policy.Picker(endpoints)          // at every change of endpoints
//	pick, err := picker.Pick(balancer.Request{  // for every connection
//		Client: client,
//		Tried:  tried, // what failed so far: none of it is picked again
//	})
//
// A failed dial asks again with the endpoint added to Request.Tried, until the
// connection stands or [ErrNoEndpoints] says that all were tried.
//
// When the connection has ended Pick.Done is called, if there is one; and before
// that Pick.Answered, if the endpoint said something, with the time it took. From
// these a policy knows how many connections last and how fast endpoints are.
//
// # Which policy
//
//   - round-robin: the default. The cheapest, and the most even where connections
//     are alike.
//   - random: where the order of round-robin could fall into step with the clients.
//   - least-connections: where connections last long and differently so, as those
//     of databases and websockets. Looks at every endpoint.
//   - p2c: nearly as even, for any number of endpoints, and better where many
//     nodes share them: the least loaded of two drawn at random.
//   - latency: where endpoints differ in speed, and answer: the fastest of two
//     drawn at random, by peak EWMA of the time to the first byte.
//   - maglev: where a client is to come back to its endpoint from any node and
//     after restarts, as caches like it. Few move when the endpoints change.
//   - first: a primary with backups, in the order of addresses.
//
// What they know of an endpoint outlives its absence: for five minutes, and as
// long as it has connections; of 4,096 that are gone at most.
//
// # Weights
//
// Endpoint.Weight is the share of an endpoint relative to the others', 1 to
// 100,000. All policies but first follow it: those that draw draw by weight,
// round-robin gives as many turns, those that count compare
// (connections+1)/weight, maglev gives as many slots. A change of weights is a
// new Picker with the same endpoints, which costs about 0.1 microseconds per
// endpoint, with maglev two milliseconds. So an endpoint that was just started can
// be given more step by step; no policy does so on its own, and under
// least-connections a new one gets all new connections until it has as many as
// the others, unless it has less weight.
//
// # Session affinity
//
// An [Affinity] is made once per Service port whose clients are to come back to
// the endpoint they had. It wraps the Pickers of any Policy:
//
//	affinity := balancer.NewAffinity(limit)
//	picker := affinity.Picker(policy.Picker(endpoints), endpoints, timeout)
//
// # Writing a policy
//
// Five things are to be kept in mind; package balancertest checks them.
//
//   - What has to outlive a change of the endpoints, a rotation or a memory of
//     latencies, belongs to the Policy. The Picker only refers to it.
//   - Pick runs in many goroutines at once and in the way of every new
//     connection: atomics rather than locks, and nothing that waits.
//   - An endpoint may be disliked but not withheld: asked often enough with a
//     growing Request.Tried, a Picker returns every endpoint once.
//   - Old and new Pickers of one Policy are in use at the same time, and
//     Pick.Done may be called long after its Picker was replaced.
//   - Pods come and go with ever new addresses: what is remembered of them needs
//     a bound.
//
// A policy that counts connections makes its Picker a [Chooser] too, so that it
// learns of those that session affinity sends to an endpoint without asking.
//
// The package example is a complete policy.
package balancer
