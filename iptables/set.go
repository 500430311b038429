package iptables

import (
	"cmp"
	"net/netip"
	"slices"
)

// set returns what is in a list, sorted and once each.
func set[T cmp.Ordered](list []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// merge returns the fewest of the prefixes that hold the same addresses,
// sorted. A prefix sorts before those inside it.
func merge(prefixes []netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range slices.SortedFunc(slices.Values(prefixes), netip.Prefix.Compare) {
		if n := len(all); n == 0 || !all[n-1].Overlaps(p) {
			all = append(all, p)
		}
	}
	return all
}

// intersect returns the prefixes that hold the addresses in both lists. Of two
// prefixes with an address in common one is inside the other.
func intersect(a, b []netip.Prefix) []netip.Prefix {
	var both []netip.Prefix
	for _, p := range a {
		for _, q := range b {
			switch {
			case !p.Overlaps(q):
			case p.Bits() > q.Bits():
				both = append(both, p)
			default:
				both = append(both, q)
			}
		}
	}
	return merge(both)
}
