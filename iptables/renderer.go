package iptables

import (
	"net/netip"
	"slices"
)

// renderer turns rules into chains. What it rendered the last time is taken
// again where nothing has changed: of 10,000 Services one changes at a time. The
// zero renderer has rendered nothing; what it returns never depends on that.
type renderer struct {
	pods   Pods
	node   netip.Addr
	leaves map[string]leaf // by the chain's name
}

// leaf is a chain of redirects.
type leaf struct {
	redirects []Redirect
	rules     []string
}

// layout returns our chains, and the jumps that lead to them. Each table is
// committed by itself, that of nat last: what is sent to a listener port must be
// accepted there.
func (p *renderer) layout(f Family, r Rules) []section {
	r = r.canonical()
	input := inputChains(r)
	if r.Ending {
		r.Redirects = nil
	}
	leaf := p.begin(r)
	chains := []chain{
		{preroutingChain, preroutingRules(r)},
		{outputChain, outputRules(r.Mark)},
	}
	chains = append(chains, redirectBranch.chains(f, r, leaf(toPort))...)
	if r.NodeAddr.IsValid() {
		chains = append(chains, dnatBranch.chains(f, r, leaf(toAddr(r.NodeAddr)))...)
	} else {
		chains = append(chains, dnatBranch.empty()...)
	}
	sections := []section{
		{table: filter, chains: input},
		{table: nat, chains: chains},
	}
	if r.Returning.used() {
		marks := section{table: mangle, chains: []chain{{returnChain, returnRules(f, r.Returning)}}}
		sections = slices.Insert(sections, 0, marks)
	}
	for i, s := range sections {
		for _, j := range r.jumps() {
			if j.table == s.table {
				sections[i].jumps = append(s.jumps, placement{jump: j, count: 1, first: true})
				s = sections[i]
			}
		}
	}
	return sections
}

// begin returns how the redirects of a chain are to be rendered, for a target.
func (p *renderer) begin(r Rules) func(target) func(chain string, redirects []Redirect) []string {
	last := p.leaves
	if !slices.Equal(p.pods.Prefixes, r.Pods.Prefixes) || !slices.Equal(p.pods.Interfaces, r.Pods.Interfaces) || p.node != r.NodeAddr {
		last = nil
	}
	p.pods, p.node, p.leaves = r.Pods, r.NodeAddr, make(map[string]leaf, len(last))
	return func(to target) func(string, []Redirect) []string {
		return func(chain string, redirects []Redirect) []string {
			l, ok := last[chain]
			if !ok || !sameRedirects(l.redirects, redirects) {
				l = leaf{redirects, nil}
				for _, d := range redirects {
					l.rules = append(l.rules, d.rules(r.Pods, to)...)
				}
			}
			p.leaves[chain] = l
			return l.rules
		}
	}
}
