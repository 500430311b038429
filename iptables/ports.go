package iptables

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// block is a contiguous range of listener ports.
type block struct{ first, last uint16 }

// String returns the block as --dport takes it.
func (b block) String() string {
	if b.first == b.last {
		return strconv.Itoa(int(b.first))
	}
	return strconv.Itoa(int(b.first)) + ":" + strconv.Itoa(int(b.last))
}

// listenerPorts returns those in use of one protocol, sorted.
func listenerPorts(redirects []Redirect, p Protocol) []uint16 {
	var ports []uint16
	for _, d := range redirects {
		if d.Protocol == p {
			ports = append(ports, d.To)
		}
	}
	return set(ports)
}

// blocks returns the fewest blocks that hold the ports and no others: those
// between them may belong to other daemons.
func blocks(ports []uint16) []block {
	var all []block
	for _, port := range set(ports) {
		if n := len(all); n > 0 && all[n-1].last+1 == port {
			all[n-1].last = port
		} else {
			all = append(all, block{port, port})
		}
	}
	return all
}

// refusals are how a direct hit on a listener port ends: as if nobody listened.
// A UDP client would learn that from an ICMP error; being silent gives an
// attacker with a forged source address nothing to reflect.
var refusals = []struct {
	protocol Protocol
	target   string
}{
	{TCP, "-j REJECT --reject-with tcp-reset"},
	{UDP, "-j DROP"},
}

// inputChains accept what NAT sent to a listener, whatever the policy of INPUT,
// refuse what came there otherwise, and let the open ports in.
func inputChains(r Rules) []chain {
	guards := &guards{}
	var rules []string
	for _, refusal := range refusals {
		guards.protocol, guards.refusal = refusal.protocol, refusal.target
		rules = append(rules, guards.rules(listenerPorts(r.Redirects, refusal.protocol))...)
	}
	for _, b := range blocks(r.Open) {
		rules = append(rules, b.match(TCP)+" -j ACCEPT")
	}
	return append([]chain{{inputChain, rules}}, guards.chains...)
}

// guards are the rules for listener ports of a protocol. Every packet that the
// node receives passes them, and where Services come and go there may be many
// blocks: these are spread over chains. Other ports may be open after them, so
// there is a way back.
type guards struct {
	protocol Protocol
	refusal  string
	chains   []chain
}

// rules guards ports, which are sorted.
func (g *guards) rules(ports []uint16) (rules []string) {
	all := blocks(ports)
	if len(all) <= fullChain {
		for _, b := range all {
			match := b.match(g.protocol)
			rules = append(rules, match+" -m conntrack --ctstate DNAT -j ACCEPT", match+" "+g.refusal)
		}
		return rules
	}
	n := bits.Len16(ports[0] ^ ports[len(ports)-1]) // in which they differ
	n += n%stepBits - stepBits
	for len(ports) > 0 {
		b := around(ports[0], n)
		end, _ := slices.BinarySearch(ports, b.last)
		if end < len(ports) && ports[end] == b.last {
			end++
		}
		name := fmt.Sprintf("%s-%s-%d-%d", inputChain, strings.ToUpper(string(g.protocol)), b.first, b.last)
		rules = append(rules, b.match(g.protocol)+" -j "+name)
		at := len(g.chains)
		g.chains = append(g.chains, chain{name: name})
		inside := g.rules(ports[:end])
		g.chains[at].rules = inside
		ports = ports[end:]
	}
	return rules
}

// match renders what is sent to a port of the block.
func (b block) match(p Protocol) string {
	return "-p " + string(p) + " -m " + string(p) + " --dport " + b.String()
}
