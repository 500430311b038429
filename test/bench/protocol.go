package bench

import (
	"fmt"
	"net/netip"
	"os/exec"

	"github.com/usher-proxy/usher/test/dns"
	"github.com/usher-proxy/usher/test/netns"
)

// A protocol is what the servers of a lab speak.
type protocol struct {
	transport string         // tcp or udp
	service   netip.AddrPort // leads to all servers
	port      uint16         // of the servers
	servers   int
	programs  []string                         // that serve and ask
	serve     func(*lab, *netns.Pod)           // starts a server
	ask       func(*lab, netip.AddrPort) error // asks once, from the client
}

var dnsProtocol = protocol{
	transport: "udp",
	service:   netip.MustParseAddrPort("10.96.0.10:53"),
	port:      dnsPort,
	servers:   3,
	programs:  []string{"nsd", "dnsperf"},
	serve:     func(l *lab, pod *netns.Pod) { dns.Serve(l.t, pod.NS, pod.Name, pod.AddrPort4(dnsPort)) },
	ask:       askDNS,
}

var httpProtocol = protocol{
	transport: "tcp",
	service:   netip.MustParseAddrPort("10.96.0.10:80"),
	port:      80,
	servers:   3,
	programs:  []string{"nginx", "wrk"},
	serve:     serveHTTP,
	ask:       getHTTP,
}

// iperfProtocol has one server: each run has a connection for control beside those of the load,
// and all must lead to the same server.
var iperfProtocol = protocol{
	transport: "tcp",
	service:   netip.MustParseAddrPort("10.96.0.10:5201"),
	port:      5201,
	servers:   1,
	programs:  []string{"iperf3"},
	serve:     serveIperf,
	ask:       askIperf,
}

// installed tells which of the programs is missing.
func installed(programs ...string) error {
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w; as root test/bench/install-packages.sh installs it", err)
		}
	}
	return nil
}
