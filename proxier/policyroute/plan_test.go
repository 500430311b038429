package policyroute

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func tcp(addr string) Destination {
	a := netip.MustParseAddrPort(addr)
	return Destination{Addr: a.Addr(), Protocol: TCP, Port: a.Port()}
}

func udp(addr string) Destination {
	d := tcp(addr)
	d.Protocol = UDP
	return d
}

func refused(d Destination) Destination {
	d.Refused = true
	return d
}

func planOf(t terms, list ...Destination) plan {
	slices.SortFunc(list, Destination.Compare)
	return newPlan(list, t)
}

// given Services on few ports, then there is a rule for each protocol and port however
// many addresses there are, and an address is in the tables of its own ports only.
func TestPlanHasARuleForEachProtocolAndPort(t *testing.T) {
	src := netip.MustParseAddr("192.0.2.1")
	list := []Destination{udp("10.96.0.10:53"), tcp("10.96.0.10:53")}
	for i := range 100 {
		list = append(list, tcp(fmt.Sprintf("10.96.1.%d:80", i)))
	}
	p := planOf(terms{family: IPv4, src: src}, list...)
	ports := 0
	for r := range p.rules {
		if r.priority == portPriority && r.last != 0 {
			ports++
		}
	}
	if ports != 3 {
		t.Errorf("%d rules of ports: %v", ports, inOrder(p.rules))
	}
	dns := netip.MustParseAddr("10.96.0.10")
	for _, table := range []int{tcpTables + 53, udpTables + 53} {
		if got := p.routes[place{table, dns}]; got != (way{kind: unix.RTN_LOCAL, src: src}) {
			t.Errorf("table %#x: %v", table, got)
		}
	}
	if _, has := p.routes[place{tcpTables + 80, dns}]; has {
		t.Error("10.96.0.10 is local for port 80, which it has not")
	}
}

// given destinations that are refused, then no table of a port has them.
func TestPlanRefuses(t *testing.T) {
	list := []Destination{refused(tcp("10.96.0.10:80")), tcp("10.96.0.11:80"), refused(tcp("10.96.0.12:81"))}
	p := planOf(terms{family: IPv4, device: 7}, list...)
	for at := range p.routes {
		if at.table < wholeTCP && at.table >= firstTable && at != (place{tcpTables + 80, list[1].Addr}) {
			t.Errorf("a route to %s in table %#x", at.dst, at.table)
		}
	}
	for _, d := range list {
		if got := p.routes[place{restTable, d.Addr}]; got.kind != unix.RTN_UNICAST || got.iface != 7 {
			t.Errorf("%s is not led to what refuses: %v", d.Addr, got)
		}
	}
	for r := range p.rules {
		if r.first == 81 {
			t.Errorf("a rule to an empty table: %v", r)
		}
	}
}

// given more ports than there may be rules, then all are served, and the addresses of
// those beyond are told.
func TestPlanBoundsRules(t *testing.T) {
	var list []Destination
	for i := range MaxPorts + 500 {
		list = append(list, tcp(fmt.Sprintf("10.96.0.%d:%d", 1+i/MaxPorts, 1000+i)))
	}
	p := planOf(terms{family: IPv4}, list...)
	if len(p.rules) > MaxPorts+30 {
		t.Errorf("%d rules", len(p.rules))
	}
	if p.shared != 1 {
		t.Errorf("%d addresses share", p.shared)
	}
	if _, has := p.routes[place{manyTCP, netip.MustParseAddr("10.96.0.2")}]; !has {
		t.Error("those beyond are not served")
	}
}

// given any addresses, then a few prefixes hold them all, and tell ranges that are far
// apart from what is between them.
func TestCovers(t *testing.T) {
	var list []Destination
	for i := range 200 {
		list = append(list, tcp(fmt.Sprintf("10.96.%d.%d:80", i/100, i)))
	}
	list = append(list, tcp("192.0.2.77:80"), tcp("198.51.100.1:80"), tcp("203.0.113.9:80"), tcp("203.0.113.9:81"))
	slices.SortFunc(list, Destination.Compare)
	got := covers(list)
	if len(got) > maxCovers {
		t.Errorf("%d prefixes", len(got))
	}
	for _, d := range list {
		if !slices.ContainsFunc(got, func(p netip.Prefix) bool { return p.Contains(d.Addr) }) {
			t.Errorf("%s is in none of %v", d.Addr, got)
		}
	}
	for _, other := range []string{"10.244.1.2", "192.0.2.1", "8.8.8.8"} {
		if slices.ContainsFunc(got, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(other)) }) {
			t.Errorf("%s is in one of %v", other, got)
		}
	}
}

func BenchmarkPlan10000(b *testing.B) {
	list := manyServices(10000)
	for b.Loop() {
		newPlan(list, terms{family: IPv4})
	}
}

// manyServices have one port, and are sorted.
func manyServices(n int) (list []Destination) {
	addr := netip.MustParseAddr("10.96.0.1")
	for range n {
		list, addr = append(list, Destination{Addr: addr, Protocol: TCP, Port: 80}), addr.Next()
	}
	return list
}
