package iptables

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// compare orders redirects by what they match, the narrower ones of a frontend
// first.
func compare(a, b Redirect) int {
	if c := a.Addr.Compare(b.Addr); c != 0 { // most of them, and there are many to sort
		return c
	}
	return cmp.Or(
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Port, b.Port),
		first(a.Here, b.Here),
		first(len(a.Sources) > 0, len(b.Sources) > 0),
		cmp.Compare(a.Name, b.Name),
		slices.CompareFunc(a.Sources, b.Sources, netip.Prefix.Compare),
		cmp.Compare(a.To, b.To),
	)
}

// first orders what is before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// clients are those that one rule is for.
type clients struct {
	from      netip.Prefix // source address, all if not valid
	in        string       // incoming interface, all if empty
	processes bool         // of the node itself only
}

// everywhere are all addresses of either family.
var everywhere = []netip.Prefix{{}}

// rules renders the redirect: a rule for each kind of clients.
func (d Redirect) rules(pods Pods, to target) []string {
	var rules []string
	for _, c := range d.clients(pods) {
		rules = append(rules, d.match(c)+" "+to(d.To))
	}
	return rules
}

// clients returns whom the redirect is for. A rule has room for one prefix of
// sources.
func (d Redirect) clients(pods Pods) []clients {
	sources, fromPods := d.Sources, intersect(d.Sources, pods.Prefixes)
	if len(sources) == 0 {
		sources, fromPods = everywhere, pods.Prefixes
	}
	var all []clients
	if !d.Here {
		for _, s := range sources {
			all = append(all, clients{from: s})
		}
		return all
	}
	for _, s := range sources {
		all = append(all, clients{from: s, processes: true})
	}
	for _, s := range fromPods {
		all = append(all, clients{from: s})
	}
	for _, name := range pods.Interfaces {
		for _, s := range sources {
			all = append(all, clients{from: s, in: name})
		}
	}
	return all
}

// match renders which packets of these clients belong to the frontend.
func (d Redirect) match(c clients) string {
	var b strings.Builder
	b.WriteString(within("-s", c.from))
	if d.Addr.IsValid() {
		b.WriteString(within("-d", netip.PrefixFrom(d.Addr, d.Addr.BitLen())))
	}
	if c.in != "" {
		b.WriteString("-i " + c.in + " ")
	}
	b.WriteString(block{d.Port, d.Port}.match(d.Protocol))
	if c.processes {
		b.WriteString(" -m addrtype --src-type LOCAL")
	}
	if d.Name != "" {
		b.WriteString(" -m comment --comment " + quoted(comment(d.Name)))
	}
	return b.String()
}

// within renders that an address is inside a prefix, as iptables prints it:
// nothing if every address is.
func within(flag string, p netip.Prefix) string {
	if p.Bits() <= 0 {
		return ""
	}
	return flag + " " + p.String() + " "
}
