package iptables

import (
	"fmt"
	"net/netip"
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

// target renders how a packet is sent to a listener port.
type target func(port uint16) string

func toPort(port uint16) string { return fmt.Sprintf("-j REDIRECT --to-ports %d", port) }

func toAddr(addr netip.Addr) target {
	return func(port uint16) string { return "-j DNAT --to-destination " + netip.AddrPortFrom(addr, port).String() }
}

// chains returns the branch with its frontends. The rules are canonical.
func (b branch) chains(f Family, r Rules, to target) []chain {
	var services, nodePorts []string
	for _, d := range r.Redirects {
		if d.Addr.IsValid() {
			services = append(services, d.rules(r.Pods, to)...)
		} else {
			nodePorts = append(nodePorts, d.rules(r.Pods, to)...)
		}
	}
	return []chain{
		{b.chain, b.rules(f, r)},
		{b.services, services},
		{b.nodePorts, nodePorts},
	}
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
