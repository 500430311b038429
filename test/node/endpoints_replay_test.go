package node

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// dualStackNode is nodeManifest with the node's IPv6 pods besides.
var dualStackNode = strings.Replace(nodeManifest, "[10.244.0.0/22]", `["10.244.0.0/22", "fd00:10:244::/62"]`, 1)

// What one endpoint has read and then reset is said again to another one, which sees
// the client's own address too.
func TestReplayFromTheClientsAddress(t *testing.T) {
	s := newSceneOfPods(t)
	for _, family := range []func(*netns.Pod) netip.AddrPort{at4, at6} {
		resetsAfter(t, s.pods[0], family)
		answersWhoAsked(t, s.pods[1], family)
	}
	s.write("node.yaml", dualStackNode)
	again := wishes{"balancer": "first", "retry-on": "refused,reset-early", "passive-health": "off"}
	s.write("web.yaml", annotated(dualStack("web", 10, 30080, s.pods...), "web", again))
	s.write("never.yaml", annotated(dualStack("never", 11, 30081, s.pods...), "never", wishes{"balancer": "first", "passive-health": "off"}))
	s.write("alone.yaml", annotated(dualStack("alone", 12, 30082, s.pods[0]), "alone", again))
	u := s.start("--node-name=node-1")

	for _, c := range []struct {
		name, to string
		client   netip.Addr
	}{
		{"IPv4", "10.96.0.10:80", s.routed.IPv4},
		{"IPv6", "[" + vip6(10) + "]:80", s.routed.IPv6},
	} {
		never := strings.NewReplacer(".10:", ".11:", "::a]", "::b]").Replace(c.to)
		alone := strings.NewReplacer(".10:", ".12:", "::a]", "::c]").Replace(c.to)
		for _, to := range []string{c.to, never, alone} {
			netns.Eventually(t, to+" is served", func() error { return connect(t, s.routed.NS, "http://"+to) })
		}
		for _, length := range []int{1, 100, 60 << 10} {
			said, err := sayAll(t, s.routed.NS, c.to, length)
			if err != nil {
				t.Errorf("%s, %d bytes: %v", c.name, length, err)
				continue
			}
			if want := fmt.Sprintf("%s said %d", c.client, length); !strings.HasPrefix(said.answer, want) {
				t.Errorf("%s: the answer is %q, want %q", c.name, said.answer, want)
			}
			r := u.Records(1, func(r usher.Record) bool { return r.ClientPort == said.port && r.ClientIP == c.client.String() })[0]
			if len(r.Attempts) != 2 || r.Attempts[0].Result != "backend_reset_early" || r.Attempts[0].Errno != "ECONNRESET" || r.Attempts[1].Result != "ok" {
				t.Errorf("%s: attempts %+v", c.name, r.Attempts)
			}
			if r.Reason != "ok" || r.Source != "client" || r.BytesIn != int64(length+headLength) || r.BytesOut != int64(len(said.answer)) {
				t.Errorf("%s: the record says %+v", c.name, r)
			}
		}
		// More than may be held is not said twice, nor is anything unless the Service
		// asks for it.
		if _, err := sayAll(t, s.routed.NS, c.to, 80<<10); !isReset(err) {
			t.Errorf("%s: 80 KiB: %v; want a reset", c.name, err)
		}
		if _, err := sayAll(t, s.routed.NS, never, 100); !isReset(err) {
			t.Errorf("%s: without reset-early: %v; want a reset", c.name, err)
		}
		// Where there is no other one the client gets what it would have got, and the
		// record tells of the one that it had.
		said, err := sayAll(t, s.routed.NS, alone, 100)
		if !isReset(err) {
			t.Errorf("%s: without another endpoint: %v; want a reset", c.name, err)
		}
		r := u.Records(1, func(r usher.Record) bool { return r.ClientPort == said.port && r.Service == "alone" })[0]
		if r.Reason != "backend_reset" || r.Source != "client" || len(r.Attempts) != 1 || r.Attempts[0].Result != "backend_reset_early" {
			t.Errorf("%s: without another endpoint the record says %+v", c.name, r)
		}
	}
}

// headLength is of the number that says how much follows.
const headLength = 8

// readAll reads what sayAll says.
func readAll(c *net.TCPConn) (n int, err error) {
	head := make([]byte, headLength)
	if _, err = io.ReadFull(c, head); err != nil {
		return 0, err
	}
	if n, err = strconv.Atoi(string(head)); err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, c, int64(n))
	return n, err
}

func at4(p *netns.Pod) netip.AddrPort { return p.AddrPort4(8080) }
func at6(p *netns.Pod) netip.AddrPort { return p.AddrPort6(8080) }

// resetsAfter makes a pod read everything, and reset.
func resetsAfter(t *testing.T, pod *netns.Pod, at func(*netns.Pod) netip.AddrPort) {
	t.Helper()
	serveTCP(t, pod.NS, at(pod), func(c *net.TCPConn) {
		readAll(c)
		c.SetLinger(0)
	})
}

// answersWhoAsked makes a pod read everything, and answer with the address that it
// sees.
func answersWhoAsked(t *testing.T, pod *netns.Pod, at func(*netns.Pod) netip.AddrPort) {
	t.Helper()
	serveTCP(t, pod.NS, at(pod), func(c *net.TCPConn) {
		if n, err := readAll(c); err == nil {
			fmt.Fprintf(c, "%s said %d\n", netip.MustParseAddrPort(c.RemoteAddr().String()).Addr(), n)
		}
	})
}

// said is an answer, and the client's port.
type said struct {
	answer string
	port   int
}

// sayAll says so many bytes and returns the answer.
func sayAll(t *testing.T, from *netns.NS, to string, length int) (s said, err error) {
	t.Helper()
	conn, err := from.Dial("tcp", to)
	if err != nil {
		return s, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	s.port = conn.LocalAddr().(*net.TCPAddr).Port
	if _, err = fmt.Fprintf(conn, "%0*d%s", headLength, length, strings.Repeat("x", length)); err != nil {
		return s, err
	}
	answer, err := io.ReadAll(conn)
	s.answer = string(answer)
	if err == nil && len(answer) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return s, err
}
