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
// Four things are to be kept in mind; package balancertest checks them.
//
//   - What has to outlive a change of the endpoints, a rotation or a memory of
//     latencies, belongs to the Policy. The Picker only refers to it.
//   - Pick runs in many goroutines at once and in the way of every new
//     connection: atomics rather than locks, and nothing that waits.
//   - An endpoint may be disliked but not withheld: asked often enough with a
//     growing Request.Tried, a Picker returns every endpoint once.
//   - Old and new Pickers of one Policy are in use at the same time, and
//     Pick.Done may be called long after its Picker was replaced.
//
// A policy that counts connections makes its Picker a [Chooser] too, so that it
// learns of those that session affinity sends to an endpoint without asking.
//
// The package example is a complete policy.
package balancer
