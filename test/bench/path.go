package bench

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// A path is one way from the client to the servers.
type path struct {
	name    string
	start   func(*lab) route
	program string // that it needs, if any
}

// A route is a path that was made in a lab.
type route struct {
	addr     netip.AddrPort // what the client asks
	last     netip.AddrPort // what else has to answer before that is measured, if valid
	proxy    *netns.Cmd     // who passes the traffic on, nil if it is the kernel alone
	output   string         // what the proxy writes about itself, a file
	patience time.Duration  // with its start, startPatience if zero
}

// paths are all that are measured, in the order of the tables.
var paths = []path{
	{name: "direct", start: startDirect},
	{name: "DNAT", start: startDNAT},
	{name: "nginx", start: startNginx, program: "nginx"},
	{name: "HAProxy", start: startHAProxy, program: "haproxy"},
	{name: "usher", start: startUsher},
}

// proxies are the paths with a process that passes the traffic on.
var proxies = without(paths, "direct", "DNAT")

func without(paths []path, names ...string) []path {
	return slices.DeleteFunc(slices.Clone(paths), func(p path) bool { return slices.Contains(names, p.name) })
}

func startDirect(l *lab) route { return route{addr: l.servers[0].AddrPort4(l.proto.port)} }

// startDNAT lets the kernel send each new flow to the next server.
func startDNAT(l *lab) route {
	var rules []string
	for i, pod := range l.servers {
		rules = append(rules, fmt.Sprintf("%s -m statistic --mode nth --every %d --packet 0 -j DNAT --to-destination %s",
			l.toService(), len(l.servers)-i, pod.AddrPort4(l.proto.port)))
	}
	l.addNATRules(rules...)
	return route{addr: l.proto.service}
}

// toService is the match of what the client sends to the service.
func (l *lab) toService() string {
	return fmt.Sprintf("-A PREROUTING -d %s/32 -p %s --dport %d",
		l.proto.service.Addr(), l.proto.transport, l.proto.service.Port())
}

// redirect leads the service to a port of the node.
func (l *lab) redirect(port uint16) {
	l.addNATRules(fmt.Sprintf("%s -j REDIRECT --to-ports %d", l.toService(), port))
}

func (l *lab) addNATRules(rules ...string) {
	l.t.Helper()
	c := l.Command(l.t.Context(), "iptables-restore", "--noflush")
	c.Stdin = strings.NewReader("*nat\n" + strings.Join(rules, "\n") + "\nCOMMIT\n")
	if out, err := c.CombinedOutput(); err != nil {
		l.t.Fatalf("iptables-restore: %v\n%s", err, out)
	}
}
