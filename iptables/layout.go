package iptables

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// layout returns our chains. The filter table comes first, and each table is
// committed by itself: a listener port is accepted before anything is sent to
// it.
func layout(f Family, r Rules) []section {
	redirects := slices.SortedFunc(slices.Values(r.Redirects), compare)
	var vips, nodePorts []Redirect
	for _, d := range redirects {
		if d.Addr.IsValid() {
			vips = append(vips, d)
		} else {
			nodePorts = append(nodePorts, d)
		}
	}
	chains := []chain{
		{preroutingChain, preroutingRules(r)},
		{outputChain, outputRules(r.Mark)},
	}
	chains = append(chains, redirectBranch.chains(vips, nodePorts, toPort)...)
	if r.NodeAddr.IsValid() {
		chains = append(chains, dnatBranch.chains(vips, nodePorts, toAddr(r.NodeAddr))...)
	} else {
		chains = append(chains, dnatBranch.empty()...) // it may hold rules of before
	}
	return []section{
		{filter, []chain{{inputChain, inputRules(redirects)}}},
		{nat, chains},
	}
}

// compare orders redirects by what they match.
func compare(a, b Redirect) int {
	return cmp.Or(
		a.Addr.Compare(b.Addr),
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.To, b.To),
	)
}

// preroutingRules chooses the branch by the interface that a packet came in by.
func preroutingRules(r Rules) []string {
	if !r.NodeAddr.IsValid() {
		return []string{"-g " + redirectBranch.chain}
	}
	var rules []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.Numbered))) {
		if matchable(name) {
			rules = append(rules, "-i "+name+" -g "+redirectBranch.chain)
		}
	}
	return append(rules, "-g "+dnatBranch.chain)
}

// matchable says whether an interface can be named in a rule as it is called. A
// + at the end, for one, would match every name that begins so. What is left
// out reaches its listener by DNAT.
func matchable(name string) bool {
	return name != "" && name[0] != '-' &&
		!strings.ContainsFunc(name, func(r rune) bool { return !plain(r) && r != '@' })
}

// outputRules lets our own connections pass. There REDIRECT goes to a loopback
// address, which every node has.
func outputRules(m Mark) []string {
	var rules []string
	if m.Mask != 0 {
		rules = append(rules, fmt.Sprintf("-m mark --mark %#x/%#x -j RETURN", m.Value, m.Mask))
	}
	return append(rules, "-g "+redirectBranch.chain)
}

// target renders how a packet is sent to a listener port.
type target func(port uint16) string

func toPort(port uint16) string { return fmt.Sprintf("-j REDIRECT --to-ports %d", port) }

func toAddr(addr netip.Addr) target {
	return func(port uint16) string { return "-j DNAT --to-destination " + netip.AddrPortFrom(addr, port).String() }
}

// chains returns the branch with its frontends. VIPs come first: an address of
// a load balancer may be local to the node, and its port a NodePort.
func (b branch) chains(vips, nodePorts []Redirect, to target) []chain {
	return []chain{
		{b.chain, []string{
			"-j " + b.services,
			"-m addrtype --dst-type LOCAL -j " + b.nodePorts,
		}},
		{b.services, frontendRules(vips, to)},
		{b.nodePorts, frontendRules(nodePorts, to)},
	}
}

func (b branch) empty() []chain {
	return []chain{{name: b.chain}, {name: b.services}, {name: b.nodePorts}}
}

func frontendRules(redirects []Redirect, to target) []string {
	rules := make([]string, 0, len(redirects))
	for _, d := range redirects {
		rules = append(rules, d.match()+" "+to(d.To))
	}
	return rules
}

// match renders which packets belong to the frontend.
func (d Redirect) match() string {
	m := fmt.Sprintf("-p %[1]s -m %[1]s --dport %[2]d", d.Protocol, d.Port)
	if d.Addr.IsValid() {
		m = fmt.Sprintf("-d %v/%d ", d.Addr, d.Addr.BitLen()) + m
	}
	if d.Name != "" {
		m += ` -m comment --comment "` + comment(d.Name) + `"`
	}
	return m
}
