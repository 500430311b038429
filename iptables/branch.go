package iptables

import (
	"net/netip"
	"strconv"
)

// branch is one of the two ways to reach a listener: a chain that leads to the
// frontends with an address of their own first, and then to the NodePorts.
type branch struct {
	chain, services, nodePorts string
	suffix                     string // of the chains that these two are split into
}

const dnatSuffix = "-DNAT"

var (
	redirectBranch = branch{
		chain:     chainPrefix + "REDIRECT",
		services:  chainPrefix + "SERVICES",
		nodePorts: chainPrefix + "NODEPORTS",
	}
	dnatBranch = branch{
		chain:     chainPrefix + "DNAT",
		services:  chainPrefix + "SERVICES" + dnatSuffix,
		nodePorts: chainPrefix + "NODEPORTS" + dnatSuffix,
		suffix:    dnatSuffix,
	}
)

// target renders how a packet is sent to a listener port.
type target func(port uint16) string

func toPort(port uint16) string { return "-j REDIRECT --to-ports " + strconv.Itoa(int(port)) }

func toAddr(addr netip.Addr) target {
	host := netip.AddrPortFrom(addr, 0).String()
	to := "-j DNAT --to-destination " + host[:len(host)-1]
	return func(port uint16) string { return to + strconv.Itoa(int(port)) }
}

// chains returns the branch with its frontends. The rules are canonical.
func (b branch) chains(f Family, r Rules, rules func(chain string, redirects []Redirect) []string) []chain {
	n := 0 // NodePorts have no address, and sort first
	for n < len(r.Redirects) && !r.Redirects[n].Addr.IsValid() {
		n++
	}
	frontends := tree{suffix: b.suffix, rules: rules}
	frontends.grow(b.services, r.Redirects[n:], 1)
	frontends.grow(b.nodePorts, r.Redirects[:n], 1)
	return append([]chain{{b.chain, b.rules(f, r)}}, frontends.chains...)
}

// empty returns the branch without rules: it may hold some of before.
func (b branch) empty() []chain {
	return []chain{{name: b.chain}, {name: b.services}, {name: b.nodePorts}}
}

// rules leads to the frontends. Those with an address come first: that of a
// load balancer may be local to the node, and its port a NodePort.
func (b branch) rules(f Family, r Rules) []string {
	rules := []string{"-j " + b.services}
	if r.NotOnLoopback {
		rules = append(rules, within("-d", f.loopback())+"-j RETURN")
	}
	on := r.NodePortsOn
	if len(on) == 0 {
		on = everywhere
	}
	for _, p := range on {
		rules = append(rules, within("-d", p)+"-m addrtype --dst-type LOCAL -j "+b.nodePorts)
	}
	return rules
}
