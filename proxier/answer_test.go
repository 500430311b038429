package proxier

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/tcp"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/observe"
)

// dialFrom connects from a loopback address.
func dialFrom(from string, to netip.AddrPort, patience time.Duration) error {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", to.String())
	if err == nil {
		conn.Close()
	}
	return err
}

// silence is how long no answer comes if none ever does.
const silence = 200 * time.Millisecond

func wantSilence(t *testing.T, from string, to netip.AddrPort) {
	t.Helper()
	var timeout net.Error
	if err := dialFrom(from, to, silence); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("from %s: %v, want silence", from, err)
	}
}

func TestSocketGivesEveryAnswerAfterEveryOther(t *testing.T) {
	s := loopbackSocket(t)
	give := func(a answer) {
		t.Helper()
		if err := s.give(a, anyPollers, greet, ignore); err != nil {
			t.Fatal(err)
		}
	}
	some := silent.limitTo(nil)
	some.only = []netip.Prefix{netip.MustParsePrefix("127.0.9.0/24")}
	answers := map[string]answer{"refusing": refusing, "serving": serving, "silent": silent, "some": some}
	check := map[string]func(){
		"refusing": func() { wantRefused(t, s.addr) },
		"serving":  func() { wantServed(t, s.addr) },
		"silent":   func() { wantSilence(t, "127.0.9.1", s.addr); wantSilence(t, "127.0.0.1", s.addr) },
		"some": func() {
			wantSilence(t, "127.0.8.255", s.addr)
			wantSilence(t, "127.0.10.0", s.addr)
			if err := dialFrom("127.0.9.200", s.addr, patience); err != nil {
				t.Errorf("a client of the prefix: %v", err)
			}
		},
	}
	for from := range answers {
		for to := range answers {
			give(answers[from])
			give(answers[to])
			check[to]()
		}
	}
}

func TestSilentSocketKeepsEstablishedConnections(t *testing.T) {
	s := loopbackSocket(t)
	accepted := make(chan *tcp.Conn, 1)
	s.give(serving, anyPollers, func(c *tcp.Conn, peer netip.AddrPort) guest { accepted <- c; return nil }, ignore)
	client, err := dialTCP(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server := <-accepted
	if err := s.give(silent, anyPollers, greet, ignore); err != nil {
		t.Fatal(err)
	}
	wantSilence(t, "127.0.0.1", s.addr)
	greet(server, netip.AddrPort{})
	buf := make([]byte, 10)
	client.SetDeadline(time.Now().Add(patience))
	if n, err := client.Read(buf); string(buf[:n]) != "hello" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

func TestFilterComparesPrefixesOfBothFamilies(t *testing.T) {
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 loopback:", err)
	}
	addr := addrPort(ln.Addr())
	ln.Close()
	s, err := openStream(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for prefix, hears := range map[string]bool{
		"::1/128": true, "::/127": true, "::/1": true, "::/96": true, "::/33": true, "::/0": true,
		"::2/128": false, "8000::/1": false, "0:0:1::/48": false, "::1:0/112": false, "::1:0:0:0:0/64": false, "0:1::/32": false,
	} {
		a := answer{listen: true, limited: true, only: []netip.Prefix{netip.MustParsePrefix("2001:db8::/33"), netip.MustParsePrefix(prefix).Masked()}}
		if err := s.give(a, anyPollers, greet, ignore); err != nil {
			t.Fatal(err)
		}
		patience := patience
		if !hears {
			patience = silence
		}
		if err := dialFrom("::1", addr, patience); (err == nil) != hears {
			t.Errorf("%s: %v, hears %v", prefix, err, hears)
		}
	}
	many := make([]netip.Prefix, maxFilterPrefixes+1)
	for i := range many {
		many[i] = netip.MustParsePrefix("2001:db8::/128")
	}
	if err := s.give(answer{true, true, many}, anyPollers, greet, ignore); err != nil {
		t.Fatal(err)
	}
	if err := dialFrom("::1", addr, patience); err != nil {
		t.Errorf("with too many prefixes for a filter: %v, want an answer", err)
	}
	if err := s.give(answer{true, true, many[1:]}, anyPollers, greet, ignore); err != nil {
		t.Errorf("the most prefixes that a filter may have: %v", err)
	}
	wantSilence(t, "::1", addr)
}

func TestIntersect(t *testing.T) {
	p := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	got := intersect(p("10.0.0.0/8", "192.0.2.0/24"), p("10.1.0.0/16", "192.0.0.0/8", "172.16.0.0/12", "10.1.0.0/16"))
	want := p("10.1.0.0/16", "192.0.2.0/24")
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
}

// One socket of bind capture serves clients of both sets.
func TestBindAnswersByTheClientsAddress(t *testing.T) {
	vip := netip.MustParseAddrPort("203.0.113.1:80")
	some := []balancer.Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.1:80")}}
	ranges := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("198.51.100.0/24")}
	node := &nodeState{clients: &clients{
		local: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true},
		pods:  []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00::/64")},
	}}
	here := []netip.Prefix{
		netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"),
	}
	for _, c := range []struct {
		name   string
		policy Policy
		port   Port
		want   answer
	}{
		{"endpoints here", ExternalLocal, Port{Cluster: Eligible{Endpoints: some}, Local: Eligible{Endpoints: some}}, serving},
		{"only elsewhere: for clients of the node", ExternalLocal, Port{Cluster: Eligible{Endpoints: some}, Local: Eligible{Silent: true}}, silent.limitTo(nil).with(here)},
		{"nowhere", ExternalLocal, Port{}, refusing},
		{"internal, only elsewhere", InternalLocal, Port{Cluster: Eligible{Endpoints: some}, Local: Eligible{Silent: true}}, silent},
		{"the policy is Cluster", Cluster, Port{Cluster: Eligible{Endpoints: some}, Local: Eligible{Silent: true}}, serving},
		{"source ranges", Cluster, Port{SourceRanges: ranges, Cluster: Eligible{Endpoints: some}}, silent.with(ranges)},
		{"source ranges, and only for clients of the node", ExternalLocal, Port{SourceRanges: ranges, Cluster: Eligible{Endpoints: some}, Local: Eligible{Silent: true}},
			silent.with([]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")})},
		{"source ranges and nothing anywhere", Cluster, Port{SourceRanges: ranges}, refusing},
	} {
		c.port.Family = IPv4
		c.port.Frontends = []Frontend{{Kind: LoadBalancer, Addr: vip.Addr(), Port: 80, Policy: c.policy}}
		if got := (&bind{}).promised(&c.port, &socket{addr: vip}, node); !got.equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func (a answer) with(only []netip.Prefix) answer { a.only = only; return a }

// Where a filter has no room for all source ranges, who is outside of them is
// reset after the accept.
func TestSourceRangesAreCheckedOnAcceptToo(t *testing.T) {
	s := newScene(t)
	b := newBackend(t)
	lb := netip.AddrPortFrom(netip.MustParseAddrPort(testVIP(5)).Addr(), 8080)
	web := service("web", vip)
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: lb.Addr().String()}}
	for i := range maxFilterPrefixes + 1 {
		web.Spec.LoadBalancerSourceRanges = append(web.Spec.LoadBalancerSourceRanges, fmt.Sprintf("127.9.%d.0/24", i))
	}
	s.set(with(web, b.addr)...)
	s.served(vip)
	ask := func(from string) error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.Dial("tcp", lb.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		_, err = io.ReadAll(conn)
		return err
	}
	if err := ask("127.9.50.1"); err != nil {
		t.Errorf("a client of the ranges: %v", err)
	}
	s.record()
	if err := ask("127.0.0.1"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a client outside of them: %v, want a reset", err)
	}
	if r := s.record(); r.Reason != observe.SourceDenied || len(r.Attempts) > 0 {
		t.Errorf("the record says %s, %d attempts", r.Reason, len(r.Attempts))
	}
}
