package policyroute

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Family is an IP version.
type Family int

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Protocol is a transport protocol, by its IP number.
type Protocol uint8

// The protocols.
const (
	TCP Protocol = unix.IPPROTO_TCP
	UDP Protocol = unix.IPPROTO_UDP
)

// Destination is a Service address and port that clients may dial.
type Destination struct {
	Addr     netip.Addr
	Protocol Protocol
	Port     uint16
	// Refused has clients refused before they reach any socket of this node.
	Refused bool
	// Announced has neighbours told that the address is here.
	Announced bool
}

// Compare orders destinations.
func (d Destination) Compare(e Destination) int {
	return cmp.Or(d.Addr.Compare(e.Addr), cmp.Compare(d.Protocol, e.Protocol), cmp.Compare(d.Port, e.Port))
}

// Routing tables are recognized by their numbers, whoever made them: 0x7573 spells
// "us", and the rest says what a table is for.
const (
	firstTable = 0x75730000
	// A table for each protocol and port begins here, its port added.
	tcpTables = firstTable
	udpTables = firstTable + 1<<16
	// wholeTCP and wholeUDP have the addresses with a served port of the protocol as this
	// node's own, for packets that do not tell a port: fragments and ICMP.
	wholeTCP = firstTable + 2<<16
	wholeUDP = wholeTCP + 1
	// restTable refuses what no other table takes.
	restTable = wholeTCP + 2
	// Of ports beyond MaxPorts, by protocol.
	manyTCP   = wholeTCP + 3
	manyUDP   = wholeTCP + 4
	lastTable = manyUDP
)

// MaxPorts bounds the rules of a family: so many pairs of protocol and port have a
// rule of their own. An address with further ones is this node's own for every port of
// the protocol (see Plan.Shared).
const MaxPorts = 1000

// maxCovers bounds the prefixes that tell Service addresses from others.
const maxCovers = 8

// The rules come after the table local, which is always first, after those of package
// transparent, and before those of network plugins: some route by the source address,
// and would lead a pod's packets to a Service out of the node.
const (
	coverPriority = 20 + iota // to a prefix with Service addresses: go on at portPriority
	otherPriority             // all others: go on at endPriority
	portPriority              // by protocol and port
	knownPriority             // packets that tell a port go on at restPriority
	wholePriority             // those that do not
	restPriority
	endPriority
)

// rule is one line of ip rule.
type rule struct {
	priority    int
	to          netip.Prefix // the zero Prefix: everywhere
	protocol    uint8        // 0: any
	first, last uint16       // ports; 0: any
	table       int          // 0: none
	goTo        int          // 0: nowhere
}

// place is what the kernel knows a route by.
type place struct {
	table int
	dst   netip.Addr
}

// way is where a route leads.
type way struct {
	kind  uint8      // RTN_LOCAL, RTN_UNICAST or RTN_UNREACHABLE
	iface int        // index of the interface; 0: lo, or none
	src   netip.Addr // source address of this node's own packets; may be invalid
}

// plan is everything that is to be in the kernel for one family.
type plan struct {
	rules  map[rule]bool
	routes map[place]way
	// proxied are the neighbour entries, and whether they are ours: those of others
	// answer as well, and are left alone.
	proxied map[proxied]bool
	shared  int // addresses with ports beyond MaxPorts
}

// terms are what a plan depends on beside the destinations.
type terms struct {
	family Family
	src    netip.Addr // the node's own address; may be invalid
	anyIP  bool       // there are no policy rules
	device int        // index of the interface that refuses; 0: there is none
}

// newPlan is a pure function. The destinations are of one family, sorted, and no two
// are equal.
func newPlan(list []Destination, t terms) plan {
	p := plan{rules: map[rule]bool{}, routes: make(map[place]way, 3*len(list))}
	if len(list) == 0 {
		return p
	}
	here := way{kind: unix.RTN_LOCAL, src: t.src}
	if t.anyIP {
		for _, d := range list {
			p.routes[place{unix.RT_TABLE_LOCAL, d.Addr}] = here
		}
		return p
	}
	own := ownPorts(list)
	refused := way{kind: unix.RTN_UNREACHABLE}
	if t.device != 0 {
		refused = way{kind: unix.RTN_UNICAST, iface: t.device, src: t.src}
		if t.family == IPv4 {
			p.routes[place{unix.RT_TABLE_MAIN, dummyAddr}] = way{kind: unix.RTN_UNICAST, iface: t.device}
		}
	}
	shared := map[netip.Addr]bool{}
	for _, d := range list {
		p.routes[place{restTable, d.Addr}] = refused
		if d.Refused {
			continue
		}
		whole, many := wholeTCP, manyTCP
		if d.Protocol == UDP {
			whole, many = wholeUDP, manyUDP
		}
		p.routes[place{whole, d.Addr}] = here
		r := own[socketKey{d.Protocol, d.Port}]
		if r == (rule{}) {
			r = rule{priority: portPriority, protocol: uint8(d.Protocol), table: many}
			shared[d.Addr] = true
		}
		if d.Port != unmatchable {
			p.routes[place{r.table, d.Addr}] = here
			p.rules[r] = true
		}
	}
	p.shared = len(shared)
	p.addFrame(list, t.family)
	return p
}

// unmatchable is the port that rules of Linux cannot name (fib_rule_port_range_valid).
// Its packets look like those without a port.
const unmatchable = 1<<16 - 1

// socketKey is what a table is for.
type socketKey struct {
	protocol Protocol
	port     uint16
}

// ownPorts are the rules of the lowest MaxPorts pairs of protocol and port.
func ownPorts(list []Destination) map[socketKey]rule {
	own := map[socketKey]rule{}
	for _, d := range list {
		table := tcpTables
		if d.Protocol == UDP {
			table = udpTables
		}
		own[socketKey{d.Protocol, d.Port}] = rule{priority: portPriority, protocol: uint8(d.Protocol), first: d.Port, last: d.Port, table: table + int(d.Port)}
	}
	if len(own) <= MaxPorts {
		return own
	}
	keys := make([]socketKey, 0, len(own))
	for k := range own {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b socketKey) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol))
	})
	for _, k := range keys[MaxPorts:] {
		delete(own, k)
	}
	return own
}

// addFrame adds the rules around those of the ports.
func (p *plan) addFrame(list []Destination, family Family) {
	for _, prefix := range covers(list) {
		p.rules[rule{priority: coverPriority, to: prefix, goTo: portPriority}] = true
	}
	icmp := uint8(unix.IPPROTO_ICMP)
	if family == IPv6 {
		icmp = unix.IPPROTO_ICMPV6
	}
	for _, r := range []rule{
		{priority: otherPriority, goTo: endPriority},
		{priority: portPriority, protocol: icmp, table: wholeTCP},
		{priority: portPriority, protocol: icmp, table: wholeUDP},
		{priority: knownPriority, protocol: uint8(TCP), first: 1, last: unmatchable - 1, goTo: restPriority},
		{priority: knownPriority, protocol: uint8(UDP), first: 1, last: unmatchable - 1, goTo: restPriority},
		{priority: wholePriority, protocol: uint8(TCP), table: wholeTCP},
		{priority: wholePriority, protocol: uint8(UDP), table: wholeUDP},
		{priority: restPriority, table: restTable},
		{priority: endPriority},
	} {
		p.rules[r] = true
	}
}

// covers are a few prefixes that hold all addresses of the list: it is cut where
// neighbours have least in common. What else they hold only takes longer.
func covers(list []Destination) (prefixes []netip.Prefix) {
	type cut struct{ before, common int }
	var cuts []cut
	for i := range list[1:] {
		cuts = append(cuts, cut{i + 1, commonBits(list[i].Addr, list[i+1].Addr)})
	}
	slices.SortStableFunc(cuts, func(a, b cut) int { return cmp.Compare(a.common, b.common) })
	cuts = cuts[:min(len(cuts), maxCovers-1)]
	slices.SortFunc(cuts, func(a, b cut) int { return cmp.Compare(a.before, b.before) })
	first := 0
	for _, c := range append(cuts, cut{before: len(list)}) {
		from, to := list[first].Addr, list[c.before-1].Addr
		prefix := netip.PrefixFrom(from, commonBits(from, to)).Masked()
		if !slices.Contains(prefixes, prefix) { // one address with many ports
			prefixes = append(prefixes, prefix)
		}
		first = c.before
	}
	return prefixes
}

// commonBits is the length of the longest prefix that holds both.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			n += bits.LeadingZeros8(d)
			break
		}
		n += 8
	}
	return n - (128 - a.BitLen())
}
