package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// layout returns our chains as a pure function of the rules.
func layout(f Family, r Rules) []section { return new(renderer).layout(f, r) }

// canonical returns rules that mean the same, sorted and without repetitions.
// It changes nothing in the lists of r.
func (r Rules) canonical() Rules {
	redirects := slices.Clone(r.Redirects)
	for i, d := range redirects {
		if len(d.Sources) > 0 {
			redirects[i].Sources = merge(d.Sources)
		}
	}
	slices.SortFunc(redirects, compare)
	r.Redirects = slices.CompactFunc(redirects, func(a, b Redirect) bool { return compare(a, b) == 0 })
	r.Numbered = set(r.Numbered)
	r.Pods = Pods{Prefixes: merge(r.Pods.Prefixes), Interfaces: set(r.Pods.Interfaces)}
	r.NodePortsOn = merge(r.NodePortsOn)
	return r
}

// preroutingRules chooses the branch by the interface that a packet came in by.
func preroutingRules(r Rules) []string {
	if !r.NodeAddr.IsValid() {
		return []string{"-g " + redirectBranch.chain}
	}
	var rules []string
	for _, name := range r.Numbered {
		if matchable(name) {
			rules = append(rules, "-i "+name+" -g "+redirectBranch.chain)
		}
	}
	return append(rules, "-g "+dnatBranch.chain)
}

// matchable says whether an interface can be named in a rule as it is called. A
// + at the end, for one, would match every name that begins so. A Numbered one
// that is left out reaches its listener by DNAT.
func matchable(name string) bool {
	return name != "" && name[0] != '-' &&
		!strings.ContainsFunc(name, func(r rune) bool { return !plain(r) && r != '@' })
}

// outputRules lets our own connections pass. There REDIRECT goes to a loopback
// address, which every node has.
func outputRules(m Mark) []string {
	var rules []string
	if m.used() {
		rules = append(rules, fmt.Sprintf("-m mark --mark %#x/%#x -j RETURN", m.Value, m.Mask))
	}
	return append(rules, "-g "+redirectBranch.chain)
}

// returnRules marks what belongs to a socket of the node that may have an
// address of somebody else (IP_TRANSPARENT), and the errors about it: without
// them it would not learn of a smaller MTU, or that nobody is there. Datagrams
// have to be replies: a UDP socket of another program that is not connected
// would match whatever is sent to its address and port by anybody.
func returnRules(f Family, m Mark) []string {
	var rules []string
	for _, packets := range []string{"tcp", "udp -m conntrack --ctdir REPLY", f.icmp()} {
		rules = append(rules, fmt.Sprintf("-p %s -m socket --transparent -j MARK --set-xmark %#x/%#x", packets, m.Value, m.Mask))
	}
	return rules
}
