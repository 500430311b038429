package node

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// An endpoint that wants the PROXY protocol gets it from everybody: from clients with
// their addresses, and from checks with word that they are for no client.
func TestProxyProtocolOfClientsAndChecks(t *testing.T) {
	s := newSceneOfPods(t)
	heads := servesHeads(t, s.pods[0], 8080)
	bare := servesHeads(t, s.pods[0], 9000)
	web := manifest("web", 10, 30080, s.pods[0].IPv4)
	write := func(version, check string) {
		with := often(check)
		with["proxy-protocol"] = version
		s.write("web.yaml", annotated(web, "web", with))
	}
	write("v2", "tcp")
	u := s.startSeen()
	await := func(h *headers, want string) {
		t.Helper()
		netns.Eventually(t, "a connection with "+want, func() error {
			connect(t, s.client.NS, vip(10))
			return h.has(want)
		})
	}
	client, routed := s.client.IPv4.String()+" dials 10.96.0.10:80", s.routed.IPv4.String()+" dials 10.96.0.10:80"
	await(heads, "v2 LOCAL")
	await(heads, "v2 PROXY "+client)
	connect(t, s.routed.NS, vip(10))
	await(heads, "v2 PROXY "+routed)
	netns.Eventually(t, "the check is good", func() error {
		if e := s.status("web", s.pods[0]); !strings.Contains(e.Why, "the last check was good") {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})

	write("v1", "http:/")
	await(heads, "v1 LOCAL")
	await(heads, "v1 PROXY "+client)

	// On another port nobody expects a header.
	write("v1", "tcp@9000")
	await(bare, "none")

	write("off", "tcp")
	await(heads, "none")
	if text := strings.Join(bare.all(), ", "); text != "none" {
		t.Errorf("on another port there came %s", text)
	}
	if n := countLines(u.Log(), " is ill"); n > 0 {
		t.Errorf("a check has failed")
	}
	for _, r := range u.Records(0, func(usher.Record) bool { return true }) {
		if r.Reason != "ok" && r.Reason != "client_reset" && r.Reason != "backend_reset" {
			t.Errorf("a client's record says %s", r.Reason)
		}
	}
}

// headers are the PROXY protocol headers that have come to a port.
type headers struct {
	mu   sync.Mutex
	seen map[string]bool
}

// servesHeads serves a port of a pod: it reads a header, if there is one, answers to
// HTTP, and closes.
func servesHeads(t *testing.T, pod *netns.Pod, port uint16) *headers {
	t.Helper()
	h := &headers{seen: map[string]bool{}}
	serveTCP(t, pod.NS, pod.AddrPort4(port), func(c *net.TCPConn) {
		from := bufio.NewReader(c)
		head, err := proxyproto.Read(from)
		if _, more := from.Peek(1); err == nil || err == proxyproto.ErrNoProxyProtocol || more == io.EOF {
			h.note(head)
		}
		if request, err := http.ReadRequest(from); err == nil {
			resp := http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: request, Close: true}
			resp.Write(c)
		}
	})
	return h
}

func (h *headers) note(head *proxyproto.Header) {
	what := "none"
	switch {
	case head == nil:
	case head.Command.IsLocal() || head.TransportProtocol == proxyproto.UNSPEC:
		what = fmt.Sprintf("v%d LOCAL", head.Version)
	default:
		client, _, _ := net.SplitHostPort(head.SourceAddr.String())
		what = fmt.Sprintf("v%d PROXY %s dials %s", head.Version, client, head.DestinationAddr)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[what] = true
}

func (h *headers) all() (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for what := range h.seen {
		list = append(list, what)
	}
	return list
}

// has tells whether such a header has come.
func (h *headers) has(what string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.seen[what] {
		return fmt.Errorf("there were %v", h.seen)
	}
	return nil
}
