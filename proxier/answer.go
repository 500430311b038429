package proxier

import (
	"net/netip"
	"slices"
)

// answer is what clients that connect to a socket get.
type answer struct {
	listen bool // otherwise they are refused (ECONNREFUSED)
	// limited says that only clients in these prefixes get any answer; the others
	// get silence.
	limited bool
	only    []netip.Prefix
}

var (
	refusing = answer{}
	serving  = answer{listen: true}
	silent   = answer{listen: true, limited: true}
)

func (a answer) equal(b answer) bool {
	return a.listen == b.listen && a.limited == b.limited && slices.Equal(a.only, b.only)
}

// limitTo restricts an answer to some prefixes; nil restricts nothing.
func (a answer) limitTo(prefixes []netip.Prefix) answer {
	switch {
	case prefixes == nil || !a.listen:
		return a
	case !a.limited:
		return answer{listen: true, limited: true, only: prefixes}
	}
	return answer{listen: true, limited: true, only: intersect(a.only, prefixes)}
}

// intersect is what is in both lists: of two prefixes that overlap, the smaller.
func intersect(a, b []netip.Prefix) (both []netip.Prefix) {
	for _, p := range a {
		for _, q := range b {
			if !p.Overlaps(q) {
				continue
			}
			if q.Bits() > p.Bits() {
				both = append(both, q)
			} else {
				both = append(both, p)
			}
		}
	}
	slices.SortFunc(both, netip.Prefix.Compare)
	return slices.Compact(both)
}

// answer is what clients get for whom these endpoints are eligible.
func (e *Eligible) answer() answer {
	switch {
	case len(e.Endpoints) > 0:
		return serving
	case e.Silent:
		return silent
	}
	return refusing
}
