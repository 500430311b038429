package bench

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/usher-proxy/usher/test/netns"
)

// A path is one way from the client to the servers.
type path struct {
	name  string
	start func(*lab) route
}

// A route is a path that was made in a lab.
type route struct {
	addr   netip.AddrPort // what the client asks
	proxy  *netns.Cmd     // who passes the datagrams on, nil if it is the kernel alone
	output string         // what the proxy writes about itself, a file
}

// paths are all that are measured, in the order of the tables.
var paths = []path{
	{"direct", startDirect},
	{"DNAT", startDNAT},
	{"nginx", startNginx},
	{"usher", startUsher},
}

// service is the address that leads to all servers.
var service = netip.MustParseAddrPort("10.96.0.10:53")

func startDirect(l *lab) route { return route{addr: l.servers[0].AddrPort4(dnsPort)} }

// startDNAT lets the kernel send each new flow to the next server.
func startDNAT(l *lab) route {
	var rules []string
	for i, pod := range l.servers {
		rules = append(rules, fmt.Sprintf("%s -m statistic --mode nth --every %d --packet 0 -j DNAT --to-destination %s",
			toService, len(l.servers)-i, pod.AddrPort4(dnsPort)))
	}
	l.addNATRules(rules...)
	return route{addr: service}
}

// toService is the match of what the client sends to the service.
var toService = fmt.Sprintf("-A PREROUTING -d %s/32 -p udp --dport %d", service.Addr(), service.Port())

// redirect leads the service to a port of the node.
func (l *lab) redirect(port uint16) {
	l.addNATRules(fmt.Sprintf("%s -j REDIRECT --to-ports %d", toService, port))
}

func (l *lab) addNATRules(rules ...string) {
	l.b.Helper()
	c := l.Command(l.b.Context(), "iptables-restore", "--noflush")
	c.Stdin = strings.NewReader("*nat\n" + strings.Join(rules, "\n") + "\nCOMMIT\n")
	if out, err := c.CombinedOutput(); err != nil {
		l.b.Fatalf("iptables-restore: %v\n%s", err, out)
	}
}
