package iptables

import "strings"

// Tables of the kernel.
const (
	nat    = "nat"
	filter = "filter"
)

// chainPrefix begins the name of every chain of ours, and of none else.
const chainPrefix = "USHER-"

// Our chains. What each is for is told in the package documentation.
const (
	preroutingChain = chainPrefix + "PREROUTING"
	outputChain     = chainPrefix + "OUTPUT"
	inputChain      = chainPrefix + "INPUT"
	probeChain      = chainPrefix + "PROBE" // exists for the length of New
)

// branch is one of the two ways to reach a listener: a chain that leads to the
// frontends with an address of their own first, and then to the NodePorts.
type branch struct {
	chain, services, nodePorts string
}

var (
	redirectBranch = branch{
		chain:     chainPrefix + "REDIRECT",
		services:  chainPrefix + "SERVICES",
		nodePorts: chainPrefix + "NODEPORTS",
	}
	dnatBranch = branch{
		chain:     chainPrefix + "DNAT",
		services:  chainPrefix + "SERVICES-DNAT",
		nodePorts: chainPrefix + "NODEPORTS-DNAT",
	}
)

// owned says whether a chain is ours, perhaps of another version of usher.
func owned(chain string) bool { return strings.HasPrefix(chain, chainPrefix) }
