package node

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// nodeManifest tells usher which pods are its node's.
const nodeManifest = `
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDR: 10.244.0.0/22, podCIDRs: [10.244.0.0/22]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
`

// seenBy is the address that a Service's endpoint sees of a client.
func seenBy(t *testing.T, from *netns.NS, url string) netip.Addr {
	t.Helper()
	served(t, from, url)
	answer, err := from.Get(url + "/clientip")
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(answer).Addr()
}

// An endpoint sees the client's address where its reply comes back through the
// node, and the node's elsewhere.
func TestEndpointsSeeTheirClients(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4)
	s.routed.ServeHTTP("routed", s.routed.AddrPort4(8080))
	s.write("node.yaml", nodeManifest)
	s.write("bridged.yaml", manifest("bridged", 10, 30080, s.pods[0].IPv4))
	s.write("routed.yaml", manifest("routed", 11, 30081, s.routed.IPv4))
	local := strings.ReplaceAll(manifest("local", 12, 30082, s.pods[1].IPv4), "type: NodePort", "type: NodePort\n  externalTrafficPolicy: Local")
	s.write("local.yaml", strings.ReplaceAll(local, "{addresses:", "{nodeName: node-1, addresses:"))
	u := s.start("--node-name=node-1")

	bridge := netip.MustParseAddr("10.244.1.1")
	for _, c := range []struct {
		name string
		from *netns.NS
		url  string
		want netip.Addr
	}{
		{"a routed pod to a bridged one", s.routed.NS, vip(10), s.routed.IPv4},
		{"a bridged pod to a routed one", s.client.NS, vip(11), s.client.IPv4},
		{"a bridged pod to another one: replies would not come by", s.client.NS, vip(10), bridge},
		{"a pod to itself", s.routed.NS, vip(11), bridge},
		{"the node", s.NS, vip(10), bridge},
		{"outside to an eTP Local NodePort", s.Client, "http://192.0.2.1:30082", netns.ClientIPv4},
		{"outside to an eTP Cluster NodePort", s.Client, "http://192.0.2.1:30080", bridge},
		{"a routed pod to an eTP Local NodePort", s.routed.NS, "http://192.0.2.1:30082", s.routed.IPv4},
	} {
		if got := seenBy(t, c.from, c.url); got != c.want {
			t.Errorf("%s: the endpoint sees %s, want %s", c.name, got, c.want)
		}
	}
	kept := u.Records(1, func(r usher.Record) bool { return r.Source == "client" })
	for _, r := range kept {
		if r.ClientIP == s.client.IPv4.String() && r.BackendIP == s.pods[0].IPv4.String() {
			t.Errorf("a record says that a client behind the same bridge was seen: %+v", r)
		}
	}
	u.Stop()
	s.leavesNothing()
}

func TestSourceIsNeverPreservedIfNotWanted(t *testing.T) {
	s := newScene(t)
	s.write("node.yaml", nodeManifest)
	s.write("bridged.yaml", manifest("bridged", 10, 30080, s.pods[0].IPv4))
	before := s.Run("ip", "rule")
	s.start("--node-name=node-1", "--preserve-source=never")
	if got := seenBy(t, s.routed.NS, vip(10)); got == s.routed.IPv4 {
		t.Errorf("the endpoint sees %s", got)
	}
	if after := s.Run("ip", "rule") + s.Run("iptables-save", "-t", "mangle"); !strings.HasPrefix(after, before) || strings.Contains(after, "USHER") {
		t.Errorf("the node has changed:\n%s", after)
	}
}

// What a crash leaves, usher cleanup takes away.
func TestCleanupTakesPolicyRoutesAway(t *testing.T) {
	s := newScene(t)
	s.write("node.yaml", nodeManifest)
	s.write("bridged.yaml", manifest("bridged", 10, 30080, s.pods[0].IPv4))
	u := s.start("--node-name=node-1")
	seenBy(t, s.routed.NS, vip(10))
	u.Kill()
	if rules := s.Run("ip", "rule"); !strings.Contains(rules, "0x40/0x40") {
		t.Fatalf("nothing to clean: %s", rules)
	}
	clean := usher.Launch(t, s.NS, "cleanup")
	if code := clean.Wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, clean.Log())
	}
	s.leavesNothing()
}

// leavesNothing looks for anything of usher's in the kernel.
func (s *scene) leavesNothing() {
	s.t.Helper()
	for _, command := range [][]string{{"ip", "rule"}, {"ip", "-6", "rule"}, {"ip", "route", "show", "table", "all"}, {"iptables-save"}, {"ip6tables-save"}} {
		out := s.Run(command[0], command[1:]...)
		for _, mine := range []string{"USHER", "0x40/0x40", "87437", "0x20/0x20"} {
			if strings.Contains(out, mine) {
				s.t.Errorf("%s is left:\n%s", mine, fmt.Sprintf("%s\n%s", strings.Join(command, " "), out))
			}
		}
	}
}

// An error about a connection from a client's address goes to that address too,
// and has to come back.
func TestRefusalByICMPReachesTheClientsSocket(t *testing.T) {
	s := newScene(t)
	s.routed.Run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "REJECT", "--reject-with", "icmp-port-unreachable")
	s.write("node.yaml", nodeManifest)
	s.write("web.yaml", manifest("web", 10, 30080, s.routed.IPv4))
	u := s.start("--node-name=node-1", "--connect-timeout=10s")
	netns.Eventually(t, "the client is refused", func() error {
		conn, err := s.client.Dial("tcp", "10.96.0.10:80")
		if err == nil {
			conn.Close()
		}
		u.Records(1, func(r usher.Record) bool {
			return r.Reason == "backend_refused" && r.Attempts[0].Errno == "ECONNREFUSED"
		})
		return nil
	})
}

// A connection from a client's address goes on while usher waits for it to end.
func TestDrainingKeepsConnectionsFromClientsAddresses(t *testing.T) {
	s := newScene(t)
	s.write("node.yaml", nodeManifest)
	s.write("web.yaml", strings.ReplaceAll(manifest("web", 10, 30080, s.pods[0].IPv4), "port: 8080", "port: 7000"))
	s.pods[0].ServeTCPEcho(s.pods[0].AddrPort4(7000))
	u := s.start("--node-name=node-1", "--drain-timeout=20s")
	netns.Eventually(t, "served", func() error { return connect(t, s.routed.NS, vip(10)) })
	conn, err := s.routed.Dial("tcp", "10.96.0.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo := func(text string) {
		t.Helper()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(conn, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
			t.Errorf("sent %q, got %q, %v", text, got, err)
		}
	}
	echo("before")
	u.Signal(syscall.SIGTERM)
	u.WaitLog("waiting up to")
	netns.Eventually(t, "nobody new is served", func() error {
		if connect(t, s.client.NS, vip(10)) == nil {
			return errors.New("somebody is")
		}
		return nil
	})
	echo("while draining")
	conn.Close()
	if code := u.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if kept := u.Records(1, func(r usher.Record) bool { return r.Source == "client" && r.BytesIn > 0 }); kept[0].Reason != "ok" {
		t.Errorf("the record says %+v", kept[0])
	}
	s.leavesNothing()
}
