package iptables

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

// BenchmarkForward sends datagrams through a node that has nothing to do with
// them but to ask whether it is to mark them. One rule costs too little to be
// seen, so there are fifty.
func BenchmarkForward(b *testing.B) {
	for _, v := range []variant{{IPv4, "nft"}, {IPv6, "nft"}, {IPv4, "legacy"}} {
		node := netns.NewNode(b, "node")
		pod := node.AddPod(netns.Routed, "pod")
		node.RouteFromClient(netns.ClusterCIDRv4, netns.ClusterCIDRv6)
		node.ListenUDP(v.wildcard(7)) // an ordinary server of the node
		client := netip.AddrPortFrom(v.clientAddr(), 5000)
		endpoint := netip.AddrPortFrom(v.podAddr(pod), 7)
		requests, replies := node.Client.ListenUDP(client), pod.ListenUDP(endpoint)
		if _, err := requests.WriteToUDPAddrPort([]byte("first"), endpoint); err != nil {
			b.Fatal(err)
		}
		mangle := func(args ...string) {
			node.Run(v.command(), append([]string{"-t", mangle}, args...)...)
		}
		for _, rules := range []int{0, 50} {
			for range rules {
				rule := returnRules(v.family, Mark{returnMark, returnMark})[1]
				mangle(append([]string{"-A", "PREROUTING"}, strings.Fields(rule)...)...)
			}
			if rules == 0 { // tracked all the same
				mangle("-A", "OUTPUT", "-m", "conntrack", "--ctstate", "DNAT")
			}
			b.Run(fmt.Sprintf("%v/requests/%d rules", v.command(), rules), func(b *testing.B) { flood(b, requests, endpoint) })
			b.Run(fmt.Sprintf("%v/replies/%d rules", v.command(), rules), func(b *testing.B) { flood(b, replies, client) })
		}
	}
}

// flood sends datagrams that nobody reads. On a virtual cable the sender's
// thread does all the work.
func flood(b *testing.B, from *net.UDPConn, to netip.AddrPort) {
	raw, err := from.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	sockaddr := unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port())})
	if to.Addr().Is6() {
		sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	} else {
		sockaddr.(*unix.SockaddrInet4).Addr = to.Addr().As4()
	}
	payload := make([]byte, 64)
	raw.Control(func(fd uintptr) {
		for b.Loop() {
			if err := unix.Sendto(int(fd), payload, 0, sockaddr); err != nil {
				b.Fatal(err)
			}
		}
	})
}
