// Package balancertest proves that a balancer.Policy keeps its contract:
//
//	func TestMine(t *testing.T) {
//		balancertest.Run(t, func() balancer.Policy { return newMine() })
//		balancertest.Spreads(t, func() balancer.Policy { return newMine() })
//	}
//
// Run it with -race: half of the contract is about concurrency.
package balancertest
