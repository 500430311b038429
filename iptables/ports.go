package iptables

import "fmt"

// block is a contiguous range of listener ports.
type block struct{ first, last uint16 }

// String returns the block as --dport takes it.
func (b block) String() string {
	if b.first == b.last {
		return fmt.Sprint(b.first)
	}
	return fmt.Sprintf("%d:%d", b.first, b.last)
}

// listenerPorts returns those in use of one protocol.
func listenerPorts(redirects []Redirect, p Protocol) []uint16 {
	var ports []uint16
	for _, d := range redirects {
		if d.Protocol == p {
			ports = append(ports, d.To)
		}
	}
	return ports
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

// inputRules accepts what NAT sent to a listener, whatever the policy of INPUT,
// refuses what came there otherwise, and lets the open ports in.
func inputRules(r Rules) []string {
	var rules []string
	for _, refusal := range refusals {
		for _, b := range blocks(listenerPorts(r.Redirects, refusal.protocol)) {
			rules = append(rules,
				b.match(refusal.protocol)+" -m conntrack --ctstate DNAT -j ACCEPT",
				b.match(refusal.protocol)+" "+refusal.target)
		}
	}
	for _, b := range blocks(r.Open) {
		rules = append(rules, b.match(TCP)+" -j ACCEPT")
	}
	return rules
}

// match renders what is sent to a port of the block.
func (b block) match(p Protocol) string {
	return fmt.Sprintf("-p %[1]s -m %[1]s --dport %[2]v", p, b)
}
