package bench

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

// A holder holds as many connections as are answered, has one request answered on each, and
// closes all when it is released.
func TestHolder(t *testing.T) {
	l := &lab{Node: netns.NewNode(t, "node"), t: t}
	l.client = l.AddPod(netns.Bridged, "client")
	server := l.AddPod(netns.Routed, "server")
	addr := server.AddrPort4(80)
	const room = 3
	closed := answerFirst(t, server.Listen("tcp", addr), room)

	h, err := l.hold(5, addr)
	if err != nil {
		t.Fatal(err)
	}
	if h.Held != room || !strings.HasPrefix(h.Error, fmt.Sprintf("connection %d: ", room+1)) {
		t.Errorf("%+v, want %d", h.holding, room)
	}
	select {
	case <-closed:
		t.Fatal("a connection was not held")
	default:
	}
	if err := h.release(); err != nil {
		t.Error(err)
	}
	for range room {
		<-closed
	}
}

// answerFirst answers on so many connections, closes all further ones, and tells of each that
// was answered when the client has closed it.
func answerFirst(t *testing.T, listener net.Listener, room int) (closed chan struct{}) {
	closed = make(chan struct{}, room)
	serve := func(conn net.Conn) {
		defer conn.Close()
		request := make([]byte, 1024)
		if n, _ := conn.Read(request); string(request[:n]) != httpRequest {
			t.Errorf("request %q", request[:n])
		}
		// In two parts, as the network may deliver it.
		conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r"))
		conn.Write([]byte("\n" + httpAnswer))
		conn.Read(request)
		closed <- struct{}{}
	}
	go func() {
		for i := 0; ; i++ {
			conn, err := listener.Accept()
			if err != nil {
				return // the test ends
			}
			if i < room {
				go serve(conn)
			} else {
				conn.Close()
			}
		}
	}()
	return closed
}

// An answer of something else is an error, and so is none.
func TestOtherAnswers(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 502 Bad Gateway\r\n\r\n", strings.Repeat("x", 5000)} {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			server.Read(make([]byte, 1024))
			server.Write([]byte(answer))
		}()
		if err := exchangeHTTP(client); err == nil {
			t.Errorf("%.50q is an answer", answer)
		}
		client.Close()
	}
}

// A holder that cannot open anything says why.
func TestHolderRefused(t *testing.T) {
	l := &lab{Node: netns.NewNode(t, "node"), t: t}
	l.client = l.AddPod(netns.Bridged, "client")
	_, err := l.hold(5, netip.AddrPortFrom(l.Bridge4, 80))
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

func TestBadHolding(t *testing.T) {
	for _, value := range []string{"x", "3", "3 x"} {
		if err := holdConnections(value); err == nil {
			t.Errorf("%q holds", value)
		}
	}
}
