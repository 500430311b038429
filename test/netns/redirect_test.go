package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// given a rule that redirects a VIP to a port of the node, when pods connect to the VIP, then
// the lab treats them as real nodes do: REDIRECT takes the address of the link that a packet
// came in by, and drops what came by a link without one.
func TestRedirect(t *testing.T) {
	node := NewNode(t, "node")
	bridged, routed := node.AddPod(Bridged, "bridged"), node.AddPod(Routed, "routed")
	proxy4 := node.ServeTCPEcho(netip.MustParseAddrPort("0.0.0.0:0"))
	proxy6 := node.ServeTCPEcho(netip.MustParseAddrPort("[::]:0"))
	redirect(node, "iptables", ServiceCIDRv4, proxy4)
	redirect(node, "ip6tables", ServiceCIDRv6, proxy6)

	for _, c := range []struct {
		pod    *Pod
		vip    string
		served bool
	}{
		{bridged, "10.96.0.7:80", true},
		{bridged, "[fd00:10:96::7]:80", true},
		{routed, "10.96.0.7:80", false},
		{routed, "[fd00:10:96::7]:80", true}, // every link has a link-local address
	} {
		patience := clientTimeout
		if !c.served {
			patience = 200 * time.Millisecond // silence has no end to wait for
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, err := c.pod.DialContext(ctx, "tcp", c.vip)
		cancel()
		if conn != nil {
			conn.Close()
		}
		if served := err == nil; served != c.served {
			t.Errorf("%s to %s: %v; served must be %v", c.pod.Name, c.vip, err, c.served)
		}
	}
}

// given a connect that came before there was a rule for it, when the rule is there and the client
// connects from the same port again, then it is served.
func TestConnectThatCameTooEarly(t *testing.T) {
	node := NewNode(t, "node")
	pod := node.AddPod(Bridged, "pod")
	proxy := node.ServeTCPEcho(netip.MustParseAddrPort("0.0.0.0:0"))
	redirect(node, "iptables", netip.MustParsePrefix("10.97.0.0/16"), proxy) // translates, but not this
	from := &net.Dialer{LocalAddr: &net.TCPAddr{Port: 4000}, Timeout: 100 * time.Millisecond}
	if conn, err := pod.DialWith(t.Context(), from, "tcp", "10.96.0.7:80"); err == nil {
		conn.Close()
		t.Fatal("served without a rule")
	}
	redirect(node, "iptables", ServiceCIDRv4, proxy)
	Eventually(t, "it is served", func() error {
		conn, err := pod.DialWith(t.Context(), from, "tcp", "10.96.0.7:80")
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func redirect(node *Node, iptables string, vips netip.Prefix, to *Backend) {
	node.Run(iptables, "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-d", vips.String(),
		"-j", "REDIRECT", "--to-ports", fmt.Sprint(to.Addr.Port()))
}

// given a VIP whose only backend is a pod, when that pod itself connects to the VIP, then it
// gets its own answer: the bridge sends back out of the port it came in by.
func TestHairpin(t *testing.T) {
	node := NewNode(t, "node")
	pod := node.AddPod(Bridged, "pod")
	backend := pod.ServeHTTP("pod", pod.AddrPort4(8080))
	node.Run("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-d", "10.96.0.7", "--dport", "80",
		"-j", "DNAT", "--to-destination", backend.Addr.String())
	node.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", pod.IPv4.String(), "-d", pod.IPv4.String(),
		"-j", "MASQUERADE")
	if name, err := pod.Get("http://10.96.0.7/"); err != nil || name != "pod" {
		t.Errorf("answer %q, %v; want pod", name, err)
	}
}
