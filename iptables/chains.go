package iptables

import "strings"

// Tables of the kernel.
const (
	nat    = "nat"
	filter = "filter"
	mangle = "mangle"
)

// chainPrefix begins the name of every chain of ours, and of none else.
const chainPrefix = "USHER-"

// Our chains. What each is for is told in the package documentation.
const (
	preroutingChain = chainPrefix + "PREROUTING"
	outputChain     = chainPrefix + "OUTPUT"
	inputChain      = chainPrefix + "INPUT"
	returnChain     = chainPrefix + "RETURN" // only if packets are to be marked
	probeChain      = chainPrefix + "PROBE"  // exists for the length of New
)

// owned says whether a chain is ours, perhaps of another version of usher.
func owned(chain string) bool { return strings.HasPrefix(chain, chainPrefix) }
