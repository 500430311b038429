// Package balancertest proves that a balancer.Policy keeps its contract:
//
//	func TestMine(t *testing.T) {
//		balancertest.Run(t, func() balancer.Policy { return newMine() })
//		balancertest.Spreads(t, func() balancer.Policy { return newMine() })
//		balancertest.Weighs(t, func() balancer.Policy { return newMine() })
//	}
//
// Run is for every policy; Spreads and Weighs are for those that share
// connections out, evenly and by weight. Run it with -race: half of the contract
// is about concurrency.
package balancertest
