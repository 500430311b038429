package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Only redirected connections are welcome on a listener port.
func TestListenerPortIsRefusedToDirectConnections(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start()
	served(t, s.client.NS, vip(10))
	port := s.listenerPort(10)
	for _, c := range []struct {
		from *netns.NS
		addr netip.Addr
	}{
		{s.client.NS, netns.NodeIPv4}, {s.routed.NS, netns.NodeIPv4}, {s.Client, netns.NodeIPv4},
		{s.NS, netns.NodeIPv4}, {s.NS, netip.MustParseAddr("127.0.0.1")},
	} {
		conn, err := c.from.Dial("tcp", netip.AddrPortFrom(c.addr, port).String())
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("from %s to %s:%d: %v, want ECONNREFUSED", c.from.Name, c.addr, port, err)
		}
	}
	served(t, s.client.NS, vip(10))
}

// With the guarding rule gone, the check on accept is left.
func TestDirectConnectionsAreResetOnAcceptToo(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start()
	served(t, s.client.NS, vip(10))
	s.Run("iptables", "-F", "USHER-INPUT")
	addr := netip.AddrPortFrom(netns.NodeIPv4, s.listenerPort(10)).String()
	if answer, err := s.client.Get("http://" + addr); err == nil {
		t.Errorf("a direct connection was served: %q", answer)
	}
	u.Records(1, func(r record) bool { return r.Reason == "direct_access_denied" })
	served(t, s.client.NS, vip(10))
}

// A port of the range that somebody else has is skipped, and that one lives on.
func TestPortsOfOthersAreSkipped(t *testing.T) {
	s := newScene(t)
	s.ServeHTTP("somebody else", netip.MustParseAddrPort("0.0.0.0:11000"))
	s.ServeHTTP("in the range", netip.MustParseAddrPort("0.0.0.0:20000"))
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start()
	served(t, s.client.NS, vip(10))
	if port := s.listenerPort(10); port == 11000 {
		t.Error("the rule leads to somebody else's port")
	}
	for _, port := range []int{11000, 20000} {
		if _, err := s.Client.Get(fmt.Sprintf("http://%s:%d", netns.NodeIPv4, port)); err != nil {
			t.Errorf("a daemon on port %d is cut off: %v", port, err)
		}
	}
}

// The ones left over are named, the others served, and when room is made they
// are served too.
func TestFullPortRange(t *testing.T) {
	s := newScene(t)
	for i, name := range []string{"a", "b", "c"} {
		s.write(name+".yaml", manifest(name, 10+i, 30080+i, s.pods[0].IPv4))
	}
	u := s.start("--proxy-port-range=11000-11001")
	served(t, s.client.NS, vip(10))
	served(t, s.client.NS, vip(11))
	u.WaitLog("default/c:http/tcp (IPv4): no free port is left in --proxy-port-range (11000-11001)")
	if connect(t, s.client.NS, vip(12)) == nil {
		t.Error("the third Service is served out of nowhere")
	}
	s.remove("a.yaml")
	served(t, s.client.NS, vip(12))
	u.WaitLog("no longer: default/c:http")
}

// A NodePort whose number is in the range of listener ports is served too.
func TestNodePortInTheRangeOfListenerPorts(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 11000, s.pods[0].IPv4))
	s.start()
	served(t, s.Client, "http://192.0.2.1:11000")
	s.write("web.yaml", manifest("web", 10, int(s.listenerPort(10)), s.pods[0].IPv4))
	served(t, s.Client, fmt.Sprintf("http://192.0.2.1:%d", 11001))
}

// A firewall that drops what it does not know must not cut Services off.
func TestDefaultDropOfINPUT(t *testing.T) {
	s := newScene(t)
	s.Run("iptables", "-P", "INPUT", "DROP")
	s.Run("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
	s.Run("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start()
	served(t, s.client.NS, vip(10))
	served(t, s.routed.NS, vip(10))
	served(t, s.NS, vip(10))
	served(t, s.Client, fmt.Sprintf("http://%s:30080", netns.NodeIPv4))
}

// After a crash the rules still lead to the old ports.
func TestPortsSurviveACrash(t *testing.T) {
	s := newScene(t)
	for i, name := range []string{"a", "b", "c"} {
		s.write(name+".yaml", manifest(name, 10+i, 30080+i, s.pods[0].IPv4))
	}
	u := s.start()
	b, c := s.listenerPort(11), s.listenerPort(12)
	u.Kill()
	s.write("new.yaml", manifest("aa", 20, 30090, s.pods[0].IPv4)) // before b and c in any order
	s.start()
	served(t, s.client.NS, vip(11))
	served(t, s.client.NS, vip(20))
	if s.listenerPort(11) != b || s.listenerPort(12) != c {
		t.Errorf("ports were %d and %d, are %d and %d", b, c, s.listenerPort(11), s.listenerPort(12))
	}
}

// A NodePort follows the node's addresses, and so do pods of every kind.
func TestAddressesComeAndGo(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start()
	served(t, s.NS, "http://192.0.2.1:30080")
	s.Run("ip", "addr", "add", "192.0.2.77/24", "dev", "eth0")
	served(t, s.Client, "http://192.0.2.77:30080")
	late := s.AddPod(netns.Routed, "late") // on a new interface, without an address
	served(t, late.NS, vip(10))
	lateToo := s.AddPod(netns.Bridged, "late too")
	served(t, lateToo.NS, vip(10))
}

func TestMarkOfPolicyRoutingIsRefused(t *testing.T) {
	s := newScene(t)
	s.Run("ip", "rule", "add", "fwmark", "0x20/0x20", "lookup", "100")
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.launch("run")
	if code := u.Wait(); code != 1 || !strings.Contains(u.Log(), "choose another bit with --mark") {
		t.Errorf("exit code %d\n%s", code, u.Log())
	}
	s.start("--mark=0x100")
	served(t, s.client.NS, vip(10))
}

// A load balancer's address with source ranges needs a listener that is silent.
// Where there is no port for it, nobody else is worse off.
func TestFullPortRangeHarmsOnlyWhoNeedsMore(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.write("restricted.yaml", restricted("z-restricted", 11, "192.0.2.0/24"))
	u := s.start("--proxy-port-range=11000-11001")
	u.WaitLog("listener for clients outside of loadBalancerSourceRanges: no free port is left")
	served(t, s.client.NS, vip(10))
	s.write("web.yaml", manifest("web", 10, 30081, s.pods[0].IPv4))
	served(t, s.Client, "http://192.0.2.1:30081")
	if connect(t, s.Client, "http://203.0.113.11") == nil {
		t.Error("an address is served without its source ranges")
	}
}

// More source ranges than rules may be are checked when a connection is accepted.
func TestVeryManySourceRanges(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netip.MustParsePrefix("203.0.113.0/24"))
	ranges := []string{"192.0.2.0/24"}
	for i := range 5000 {
		ranges = append(ranges, fmt.Sprintf("100.%d.%d.0/30", i/250, i%250))
	}
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.write("many.yaml", restricted("many", 11, ranges...))
	u := s.start()
	served(t, s.Client, "http://203.0.113.11")
	served(t, s.client.NS, vip(10))
	if answer, err := s.client.Get("http://203.0.113.11"); err == nil {
		t.Errorf("a client outside of the ranges got %q", answer)
	}
	u.Records(1, func(r record) bool { return r.Reason == "source_denied" })
	if n := strings.Count(s.Run("iptables-save", "-t", "nat"), "\n"); n > 100 {
		t.Errorf("%d lines of rules", n)
	}
}

// restricted is a Service of a load balancer at the n-th address, for some clients.
func restricted(name string, n int, ranges ...string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.%[2]d
  loadBalancerSourceRanges: [%[3]s]
  ports: [{name: http, port: 80}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.%[2]d}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.1.2]}]
`, name, n, strings.Join(ranges, ", "))
}

// A node without many files serves fewer Services, and everything else goes on.
func TestListenersLeaveFilesForTheRest(t *testing.T) {
	s := newScene(t)
	s.write("a-web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	var many strings.Builder
	for i := range 400 {
		fmt.Fprintf(&many, "---\napiVersion: v1\nkind: Service\nmetadata: {name: z%d}\nspec: {clusterIP: 10.96.%d.%d, ports: [{port: 80}]}\n", i, 1+i/250, i%250)
	}
	s.write("b-many.yaml", many.String())
	u := usher.Launch(t, s.NS, "run", "--log-format=json", "--manifests="+s.folder, "--capture=iptables")
	limit := unix.Rlimit{Cur: 500, Max: 500}
	if err := unix.Prlimit(u.PID(), unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	u.WaitLog("too many open files")
	served(t, s.client.NS, vip(10))
	if _, err := s.Get("http://127.0.0.1:10256/livez"); err != nil {
		t.Errorf("health is not answered: %v", err)
	}
	s.write("a-web.yaml", manifest("web", 10, 30081, s.pods[0].IPv4))
	served(t, s.Client, "http://192.0.2.1:30081")
}
