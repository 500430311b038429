package iptables

import (
	"fmt"
	"slices"
)

// block is a contiguous range of listener ports.
type block struct{ first, last uint16 }

// String returns the block as --dport takes it.
func (b block) String() string {
	if b.first == b.last {
		return fmt.Sprint(b.first)
	}
	return fmt.Sprintf("%d:%d", b.first, b.last)
}

// blocks returns the listener ports in use of one protocol. Ports between them
// may belong to other daemons.
func blocks(redirects []Redirect, p Protocol) []block {
	var ports []uint16
	for _, d := range redirects {
		if d.Protocol == p {
			ports = append(ports, d.To)
		}
	}
	slices.Sort(ports)
	var all []block
	for _, port := range slices.Compact(ports) {
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
// and refuses the rest.
func inputRules(redirects []Redirect) []string {
	var rules []string
	for _, r := range refusals {
		for _, b := range blocks(redirects, r.protocol) {
			match := fmt.Sprintf("-p %[1]s -m %[1]s --dport %[2]v ", r.protocol, b)
			rules = append(rules,
				match+"-m conntrack --ctstate DNAT -j ACCEPT",
				match+r.target)
		}
	}
	return rules
}
