package netns

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// A Backend is a server that runs in this process, with its socket inside a namespace. It ends
// with the test.
type Backend struct {
	Name string
	Addr netip.AddrPort

	stop func()
	once sync.Once
}

// Close stops the server and cuts its connections. It may be called any number of times.
func (b *Backend) Close() { b.once.Do(b.stop) }

// newBackend hands the server to the test, which ends it at the latest.
func (ns *NS) newBackend(name string, addr net.Addr, stop func()) *Backend {
	b := &Backend{Name: name, Addr: netip.MustParseAddrPort(addr.String()), stop: stop}
	ns.t.Cleanup(b.Close)
	return b
}

// ServeHTTP starts an HTTP server that answers with its name on every path but /clientip,
// where it answers with the address and port that the request came from. Port 0 takes a free
// one.
func (ns *NS) ServeHTTP(name string, addr netip.AddrPort) *Backend {
	ns.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
	mux.HandleFunc("/clientip", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	l := ns.Listen("tcp", addr)
	server := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	return ns.newBackend(name, l.Addr(), func() {
		server.Close()
		<-done
	})
}

// ServeTCPEcho starts a TCP server that sends back what it receives, and its end after the
// client's end.
func (ns *NS) ServeTCPEcho(addr netip.AddrPort) *Backend {
	ns.t.Helper()
	l := ns.Listen("tcp", addr)
	e := &echo{conns: map[net.Conn]bool{}}
	e.wg.Go(func() { e.accept(l) })
	return ns.newBackend("echo", l.Addr(), func() {
		l.Close()
		e.stop()
	})
}

// ServeUDPEcho starts a UDP server that sends every datagram back.
func (ns *NS) ServeUDPEcho(addr netip.AddrPort) *Backend {
	ns.t.Helper()
	c := ns.ListenUDP(addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		echoDatagrams(c)
	}()
	return ns.newBackend("echo", c.LocalAddr(), func() {
		c.Close()
		<-done
	})
}

// echoDatagrams runs until c is closed. Other errors are echoes that a client refused.
func echoDatagrams(c *net.UDPConn) {
	buf := make([]byte, 65535)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.WriteToUDPAddrPort(buf[:n], from)
		}
	}
}

// An echo holds the connections of one TCP echo server.
type echo struct {
	wg sync.WaitGroup // accept loop and connections

	mu      sync.Mutex
	stopped bool
	conns   map[net.Conn]bool
}

func (e *echo) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if !e.add(conn) {
			conn.Close()
			return
		}
		e.wg.Go(func() { e.serve(conn) })
	}
}

func (e *echo) serve(conn net.Conn) {
	io.Copy(conn, conn)
	conn.Close()
	e.mu.Lock()
	delete(e.conns, conn)
	e.mu.Unlock()
}

// add reports whether the connection may be served.
func (e *echo) add(conn net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopped {
		e.conns[conn] = true
	}
	return !e.stopped
}

// stop cuts all connections and waits until nothing runs.
func (e *echo) stop() {
	e.mu.Lock()
	e.stopped = true
	for conn := range e.conns {
		conn.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
}
