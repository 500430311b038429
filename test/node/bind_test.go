package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// newRoutedScene is a scene for --capture=bind whose Service addresses belong to nobody.
func newRoutedScene(t *testing.T) *scene {
	s := newSceneOfPods(t)
	for _, pod := range s.pods {
		for _, addr := range []netip.AddrPort{pod.AddrPort4(8080), pod.AddrPort6(8080)} {
			pod.ServeHTTP(pod.Name, addr)
			answer(t, pod.NS, pod.Name, addr)
		}
	}
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	return s
}

// clients are all places that ask from: two kinds of pods, off-node, and the node itself.
func (s *scene) clients() []*netns.NS {
	return []*netns.NS{s.client.NS, s.routed.NS, s.Client, s.NS}
}

// routing is all that policy routing consists of, in both families.
func (s *scene) routing() string {
	var all strings.Builder
	for _, family := range []string{"-4", "-6"} {
		all.WriteString(s.Run("ip", family, "rule") + s.Run("ip", family, "route", "show", "table", "all"))
	}
	return all.String()
}

// refusedAt waits until a connection is refused, neither reset later nor in silence.
func (s *scene) refusedAt(from *netns.NS, addr string) {
	s.t.Helper()
	netns.Eventually(s.t, addr+" refuses "+from.Name, func() error {
		conn, err := from.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("want a refusal, got %v", err)
		}
		return nil
	})
}

// dual is a Service of both protocols and families at the n-th addresses.
func dual(name string, n int, nodePort int, pods ...*netns.Pod) string {
	var v4, v6 []string
	for _, p := range pods {
		v4, v6 = append(v4, fmt.Sprintf("{addresses: [%s]}", p.IPv4)), append(v6, fmt.Sprintf("{addresses: ['%s']}", p.IPv6))
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  type: NodePort
  clusterIP: 10.96.0.%[2]d
  clusterIPs: [10.96.0.%[2]d, 'fd00:10:96::%[2]d']
  ipFamilies: [IPv4, IPv6]
  ports: [{name: http, port: 80, nodePort: %[3]d}, {name: udp, protocol: UDP, port: 80, nodePort: %[3]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-4, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: udp, protocol: UDP, port: 8080}]
endpoints: [%[4]s]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-6, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv6
ports: [{name: http, port: 8080}, {name: udp, protocol: UDP, port: 8080}]
endpoints: [%[5]s]
`, name, n, nodePort, strings.Join(v4, ", "), strings.Join(v6, ", "))
}

// dualAddrs are where a dual Service is dialled.
func dualAddrs(n int, nodePort int) []string {
	return []string{
		fmt.Sprintf("10.96.0.%d:80", n), fmt.Sprintf("[fd00:10:96::%d]:80", n),
		fmt.Sprintf("192.0.2.1:%d", nodePort), fmt.Sprintf("[2001:db8::1]:%d", nodePort),
	}
}

// given addresses that no interface has, and no iptables, when usher serves them, then
// every kind of client is answered by TCP and UDP of both families, is refused at once
// while there are no endpoints, and after the end everything is as it was.
func TestBindServesAddressesOfNobody(t *testing.T) {
	s := newRoutedScene(t)
	before := s.routing()
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	u := s.startBind()
	for _, from := range s.clients() {
		for _, addr := range dualAddrs(10, 30080) {
			served(t, from, "http://"+addr)
			c := ask(t, from, addr)
			c.awaits("pod-1")
		}
	}
	s.write("web.yaml", dual("web", 10, 30080))
	for _, from := range s.clients() {
		for _, addr := range dualAddrs(10, 30080) {
			s.refusedAt(from, addr)
			ask(t, from, addr).awaitsRefusal()
		}
		s.refusedAt(from, "10.96.0.10:81") // a port that no Service has
		s.refusedAt(from, "[fd00:10:96::10]:81")
	}
	s.write("web.yaml", dual("web", 10, 30080, s.pods[1]))
	for _, from := range s.clients() {
		for _, addr := range dualAddrs(10, 30080) {
			served(t, from, "http://"+addr)
			ask(t, from, addr).awaits("pod-2")
		}
	}
	r := u.Records(1, func(r usher.Record) bool { return r.VIP == "10.96.0.10" && r.Event == "conn.close" })
	if !slices.ContainsFunc(r, func(r usher.Record) bool { return r.ClientIP == "192.0.2.1" || r.ClientIP == "10.244.1.1" }) {
		t.Error("the node's own connections do not come from its address")
	}
	if code := u.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if after := s.routing(); after != before {
		t.Errorf("after the end there is\n%s\nbefore there was\n%s", after, before)
	}
}

// given daemons on the node's wildcard addresses, then they answer on no address of a
// Service. Where a Service has the port of one, its clients are refused and it is told.
func TestBindHidesWildcardDaemons(t *testing.T) {
	s := newRoutedScene(t)
	for _, daemon := range []string{"0.0.0.0:22", "[::]:23", "0.0.0.0:8443"} {
		s.ServeHTTP("daemon", netip.MustParseAddrPort(daemon))
		answer(t, s.NS, "daemon", netip.MustParseAddrPort(daemon))
	}
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	s.write("same.yaml", strings.ReplaceAll(dual("same", 11, 30081, s.pods[0]), "port: 80,", "port: 8443,"))
	u := s.startBind()
	u.WaitLog("listen on 10.96.0.11:8443: bind: address already in use")
	for _, from := range s.clients() {
		served(t, from, vip(10))
		for _, daemon := range []string{"192.0.2.1:22", "[2001:db8::1]:23", "192.0.2.1:8443"} {
			if who, err := from.Get("http://" + daemon); who != "daemon" {
				t.Fatalf("the daemon does not answer %s: %v", from.Name, err)
			}
		}
		for _, hidden := range []string{"10.96.0.10:22", "10.96.0.10:23", "[fd00:10:96::10]:23", "10.96.0.11:8443"} {
			s.refusedAt(from, hidden)
			ask(t, from, hidden).awaitsRefusal()
		}
		served(t, from, "http://192.0.2.1:30081")
	}
}

// given a connection, when its Service loses its endpoints and then goes away, then the
// connection goes on, and its route goes when it has ended.
func TestBindKeepsConnections(t *testing.T) {
	s := newRoutedScene(t)
	echo := s.pods[0].ServeTCPEcho(s.pods[0].AddrPort4(9000))
	text := strings.ReplaceAll(manifest("web", 10, 30080, s.pods[0].IPv4), "port: 8080", fmt.Sprintf("port: %d", echo.Addr.Port()))
	s.write("web.yaml", text)
	s.startBind()
	var conn net.Conn
	netns.Eventually(t, "it is served", func() (err error) {
		conn, err = s.client.Dial("tcp", "10.96.0.10:80")
		return err
	})
	defer conn.Close()
	says := func() {
		t.Helper()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, 5)
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatal(err)
		}
	}
	says()
	s.write("web.yaml", manifest("web", 10, 30080))
	s.refusedAt(s.client.NS, "192.0.2.1:30080")
	says()
	s.remove("web.yaml")
	s.write("other.yaml", manifest("other", 11, 30081, s.pods[1].IPv4))
	served(t, s.client.NS, vip(11))
	says()
	s.remove("other.yaml")
	conn.Close()
	netns.Eventually(t, "nothing is left", func() error {
		if now := s.routing(); strings.Contains(now, "proto 118") {
			return errors.New(now)
		}
		return nil
	})
}
