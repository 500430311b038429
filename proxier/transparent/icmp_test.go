package transparent

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/test/netns"
)

func (v variant) icmp() string {
	if v.family == iptables.IPv6 {
		return "ipv6-icmp"
	}
	return "icmp"
}

// given a router behind which the endpoint is, when it tells that it does not
// let the connection through, then the one who dialled hears it, but only if
// ICMP is marked as well: the message goes to the client's address.
func TestUnreachableIsTold(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		other := l.AddNode("other")
		remote, client := other.AddPod(netns.Routed, "remote"), l.AddPod(netns.Bridged, "client")
		other.Run(v.command(), "-A", "FORWARD", "-p", "tcp", "-j", "REJECT") // by "port unreachable"
		endpoint := netip.AddrPortFrom(v.pod(remote), 8080)

		l.mustNotConnect(v.pod(client), endpoint)
		l.mark(v.icmp())
		if _, err := l.dial(v.pod(client), endpoint, patience); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dial an endpoint that a router refuses: %v; want ECONNREFUSED", err)
		}
	})
}

// given a path to the endpoint on which packets must be smaller than on the
// links of both ends, when much data is sent, then the sender learns the size
// by ICMP, if that is marked. Otherwise nothing arrives.
func TestPathMTU(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		other := l.AddNode("other")
		remote, client := other.AddPod(netns.Routed, "remote"), l.AddPod(netns.Bridged, "client")
		other.Run("ip", "link", "set", remote.HostLink, "mtu", "1300")
		echo := remote.ServeTCPEcho(netip.AddrPortFrom(v.pod(remote), 7))
		large := string(make([]byte, 8000))

		send := func() error {
			conn, err := l.dial(v.pod(client), echo.Addr, patience)
			l.must(err)
			defer conn.Close()
			return askEcho(conn, large, patience/5)
		}
		if send() == nil {
			t.Error("large packets pass a small link unmarked: this test says nothing")
		}
		l.mark(v.icmp())
		if err := send(); err != nil {
			t.Errorf("send %d bytes: %v", len(large), err)
		}
	})
}

// given a network plugin that masquerades what pods send to other nodes, when
// an endpoint there is dialled from a pod's address, then it is connected, and
// sees what the plugin wants it to see: what it would without usher.
func TestMasquerade(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		other := l.AddNode("other")
		remote, client := other.AddPod(netns.Bridged, "remote"), l.AddPod(netns.Bridged, "client")
		web := remote.ServeHTTP("remote", netip.AddrPortFrom(v.pod(remote), 8080))
		l.Run(v.command(), "-t", "nat", "-A", "POSTROUTING", "-s", v.pod(client).String(), "-o", "eth0", "-j", "MASQUERADE")
		if seen, err := l.seenBy(web, v.pod(client)); err != nil || seen != v.node() {
			t.Errorf("the endpoint sees %s, %v; want %s", seen, err, v.node())
		}
	})
}

// given a reverse path filter in the rules that honours marks, as firewalld's
// for IPv6, when it comes after the mark, then it lets replies through.
func TestReversePathFilterWithMark(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		client, endpoint := l.AddPod(netns.Bridged, "client"), l.AddPod(netns.Routed, "endpoint")
		web := endpoint.ServeHTTP("endpoint", netip.AddrPortFrom(v.pod(endpoint), 8080))
		l.Run(v.command(), "-t", "mangle", "-A", "PREROUTING", "-m", "rpfilter", "--validmark", "--invert", "-j", "DROP")
		if seen, err := l.seenBy(web, v.pod(client)); err != nil || seen != v.pod(client) {
			t.Errorf("the endpoint sees %s, %v", seen, err)
		}
	})
}
