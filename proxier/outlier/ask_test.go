package outlier

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/test/netns"
)

// plainDial connects as the Prober does on a node without marks.
func plainDial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, to.String())
}

// soon leaves a healthy endpoint all the time that a busy machine may take.
const soon = 20 * time.Second

// asking is one check of an endpoint that behaves in some way.
type asking struct {
	name string
	c    Check
	to   func(t *testing.T) netip.AddrPort
	want string // the error, or how it begins; empty: the endpoint is well
}

func (a asking) run(t *testing.T) {
	t.Run(a.name, func(t *testing.T) {
		if a.c.Timeout == 0 {
			a.c.Timeout = soon
		}
		start := time.Now()
		err := a.c.ask(t.Context(), plainDial, a.to(t), 0)
		if took := time.Since(start); took > soon/2 {
			t.Errorf("it took %s", took)
		}
		if a.want == "" && err != nil || a.want != "" && (err == nil || !strings.HasPrefix(err.Error(), a.want)) {
			t.Errorf("it says %v; want %q", err, a.want)
		}
		if err != nil && isOurs(err) {
			t.Errorf("%v is taken for a fault of our own", err)
		}
	})
}

// server is a TCP endpoint that does this with every connection.
func server(serve func(net.Conn)) func(*testing.T) netip.AddrPort {
	return func(t *testing.T) netip.AddrPort {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				conn.SetDeadline(time.Now().Add(soon))
				serve(conn)
				conn.Close()
			}
		}()
		t.Cleanup(func() { listener.Close(); <-done })
		return listener.Addr().(*net.TCPAddr).AddrPort()
	}
}

func says(parts ...string) func(net.Conn) {
	return func(c net.Conn) {
		for _, p := range parts {
			io.WriteString(c, p)
			time.Sleep(20 * time.Millisecond) // a segment of its own
		}
	}
}

// answers answers what begins with question.
func answers(question string, parts ...string) func(net.Conn) {
	return func(c net.Conn) {
		got := make([]byte, len(question))
		if _, err := io.ReadFull(c, got); err == nil && string(got) == question {
			says(parts...)(c)
		}
	}
}

// hangs says so much and waits for the other side to go.
func hangs(parts ...string) func(net.Conn) {
	return func(c net.Conn) {
		says(parts...)(c)
		io.Copy(io.Discard, c)
	}
}

func resets(c net.Conn) {
	c.Read(make([]byte, 1))
	c.(*net.TCPConn).SetLinger(0)
}

// nobody is an address where a port was just given up.
func nobody(t *testing.T) netip.AddrPort {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func TestTCPChecks(t *testing.T) {
	expect := func(send, expect string) Check {
		return Check{Kind: CheckTCP, Send: []byte(send), Expect: []byte(expect)}
	}
	short := expect("", "ready")
	short.Timeout = time.Second
	for _, a := range []asking{
		{"it accepts", probe, server(hangs()), ""},
		{"it refuses", probe, nobody, "dial tcp "},
		{"it greets", expect("", "ready"), server(says("220 ready\r\n")), ""},
		{"it answers", expect("PING\r\n", "+PONG"), server(answers("PING\r\n", "+PONG\r\n")), ""},
		{"it answers in two pieces", expect("PING\r\n", "+PONG"), server(answers("PING\r\n", "+PO", "NG\r\n")), ""},
		{"it answers otherwise", expect("PING\r\n", "+PONG"), server(answers("PING\r\n", "-LOADING\r\n")), "it closed after 10 bytes without the expected answer"},
		{"it says nothing", short, server(hangs()), "no answer within 1s"},
		{"it resets", expect("PING\r\n", "+PONG"), server(resets), "read tcp "},
		{"it never ends", expect("", "ready"), server(hangs(strings.Repeat("x", 5000), "ready")), "the first 4096 bytes of its answer are not the expected ones"},
		{"late but within bounds", expect("", "ready"), server(says(strings.Repeat("x", 4091) + "ready")), ""},
	} {
		a.run(t)
	}
}

// A host that is not there: no answer at all comes.
func TestNobodyAnswers(t *testing.T) {
	node := netns.NewNode(t, "node")
	gone := netip.AddrPortFrom(netns.NodeIPv4.Next().Next().Next(), 80)
	node.Run("ip", "neighbour", "add", gone.Addr().String(), "lladdr", "02:00:00:00:00:99", "dev", "eth0")
	dial := func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
		return node.DialContext(ctx, network, to.String())
	}
	for kind, want := range map[CheckKind]string{
		CheckTCP: "no connection within 200ms", CheckHTTP: "no connection within 200ms", CheckUDP: "no answer within 200ms",
	} {
		err := Check{Kind: kind, Timeout: 200 * time.Millisecond}.ask(t.Context(), dial, gone, 0)
		if err == nil || err.Error() != want || isOurs(err) {
			t.Errorf("%s: %v; want %s", kind, err, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		start := time.Now()
		if err := (Check{Kind: kind, Timeout: time.Minute}).ask(ctx, dial, gone, 0); !errors.Is(err, context.Canceled) || !isOurs(err) || time.Since(start) > soon {
			t.Errorf("%s, cancelled: %v after %s", kind, err, time.Since(start))
		}
		cancel()
	}
}

// httpServer answers every path with what its handler says.
func httpServer(handle http.HandlerFunc) func(*testing.T) netip.AddrPort {
	return func(t *testing.T) netip.AddrPort {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: handle}
		done := make(chan struct{})
		go func() { s.Serve(listener); close(done) }()
		t.Cleanup(func() { s.Close(); <-done })
		return listener.Addr().(*net.TCPAddr).AddrPort()
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestHTTPChecks(t *testing.T) {
	get := Check{Kind: CheckHTTP, Path: "/healthz?full=1"}
	short := get
	short.Timeout = time.Second
	asIs := func(answer string) func(*testing.T) netip.AddrPort {
		return server(func(c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.WriteString(c, answer)
			}
		})
	}
	forever := func(answer, more string) func(*testing.T) netip.AddrPort {
		return server(func(c net.Conn) {
			_, err := io.WriteString(c, answer)
			for err == nil {
				_, err = io.WriteString(c, strings.Repeat(more, 1000))
				time.Sleep(time.Millisecond)
			}
		})
	}
	for _, a := range []asking{
		{"200", get, httpServer(status(200)), ""},
		{"204", get, httpServer(status(204)), ""},
		{"301 is not followed", get, httpServer(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://198.51.100.1/", http.StatusMovedPermanently)
		}), ""},
		{"399", get, httpServer(status(399)), ""},
		{"400", get, httpServer(status(400)), "it answered HTTP status 400"},
		{"503", get, httpServer(status(503)), "it answered HTTP status 503"},
		{"slow to answer", short, httpServer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "no answer within 1s"},
		{"slow to end", get, httpServer(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done() // only we can end it
		}), ""},
		{"huge", get, httpServer(func(w http.ResponseWriter, r *http.Request) {
			for _, err := w.Write(make([]byte, 1<<20)); err == nil; _, err = w.Write(make([]byte, 1<<20)) {
			}
		}), ""},
		{"early hints", get, asIs("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), ""},
		{"hints only", get, forever("", "HTTP/1.1 103 Early Hints\r\n\r\n"), "its HTTP header does not end within 65536 bytes"},
		{"switching protocols", get, asIs("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), "it answered HTTP status 101"},
		{"a header without end", get, forever("HTTP/1.1 200 OK\r\n", "X: yyyyyyyyyyyyy\r\n"), "its HTTP header does not end within 65536 bytes"},
		{"nothing", get, asIs(""), "it closed without an HTTP answer"},
		{"another protocol", get, asIs("SSH-2.0-OpenSSH_9.9\r\n"), "malformed HTTP"},
		{"refused", get, nobody, "dial tcp "},
	} {
		a.run(t)
	}
}

func TestTheHTTPRequest(t *testing.T) {
	for path, want := range map[string]string{"/healthz?full=1": "/healthz?full=1", "": "/", "x": "/x", "@198.51.100.1/": "/@198.51.100.1/", "/a b": "/a%20b"} {
		got := make(chan *http.Request, 1)
		to := httpServer(func(_ http.ResponseWriter, r *http.Request) { got <- r })(t)
		if err := (Check{Kind: CheckHTTP, Path: path, Timeout: soon}).ask(t.Context(), plainDial, to, 0); err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		r := <-got
		if r.Method != "GET" || r.RequestURI != want || r.Host != to.String() || !r.Close || r.UserAgent() != "usher-health-check" {
			t.Errorf("%q: asked was %s %s of %s, close %t, by %q", path, r.Method, r.RequestURI, r.Host, r.Close, r.UserAgent())
		}
	}
	err := Check{Kind: CheckHTTP, Path: "/\x00", Timeout: soon}.ask(t.Context(), plainDial, httpServer(status(200))(t), 0)
	if err == nil || !isOurs(err) {
		t.Errorf("a path that cannot be asked for: %v", err)
	}
}

func TestUDPChecks(t *testing.T) {
	echo := func(reply func([]byte) []byte) func(*testing.T) netip.AddrPort {
		return func(t *testing.T) netip.AddrPort {
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 65536)
				for {
					n, from, err := conn.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					if answer := reply(buf[:n]); answer != nil {
						conn.WriteToUDPAddrPort(answer, from)
					}
				}
			}()
			t.Cleanup(func() { conn.Close(); <-done })
			return conn.LocalAddr().(*net.UDPAddr).AddrPort()
		}
	}
	same := func(b []byte) []byte { return b }
	ask := func(send, expect string) Check {
		return Check{Kind: CheckUDP, Send: []byte(send), Expect: []byte(expect), Timeout: soon}
	}
	short := ask("x", "")
	short.Timeout = time.Second
	for _, a := range []asking{
		{"it answers", ask("\x00\x01", ""), echo(same), ""},
		{"it answers nothing with nothing", ask("", ""), echo(same), ""},
		{"it answers as expected", ask("ping 1", "ping"), echo(same), ""},
		{"it answers otherwise", ask("ping", "pong"), echo(same), "its answer is not the expected one"},
		{"it answers more than is read", ask(strings.Repeat("x", 5000)+"pong", "pong"), echo(same), "its answer is not the expected one"},
		{"it is silent", short, echo(func([]byte) []byte { return nil }), "no answer within 1s"},
		{"ICMP says that nobody listens", ask("x", ""), nobody, "read udp "},
	} {
		a.run(t)
	}
}

// Endpoints that expect a PROXY protocol header would complain about a check
// without one.
func TestChecksBeginWithAPROXYHeader(t *testing.T) {
	for version, raw := range map[byte]string{0: "", 1: "PROXY UNKNOWN\r\n", 2: "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"} {
		got := make(chan []byte, 1)
		take := server(func(c net.Conn) {
			all, _ := io.ReadAll(c)
			got <- all
		})
		to := take(t)
		if err := probe.ask(t.Context(), plainDial, to, version); err != nil {
			t.Fatal(err)
		}
		if got := string(<-got); got != raw {
			t.Errorf("version %d: it heard %q; want %q", version, got, raw)
		}

		// An HTTP server behind a listener that insists on the header.
		addr := server(func(c net.Conn) {
			from := bufio.NewReader(c)
			header, err := proxyproto.Read(from)
			if (err == nil) != (version > 0) || err == nil && header.Version != version {
				t.Errorf("version %d: it read %v, %v", version, header, err)
			}
			if _, err := http.ReadRequest(from); err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			}
		})(t)
		if err := (Check{Kind: CheckHTTP, Timeout: soon}).ask(t.Context(), plainDial, addr, version); err != nil {
			t.Errorf("version %d: %v", version, err)
		}

		// The health port of an endpoint is not what it serves on.
		if err := (Check{Kind: CheckTCP, Port: to.Port(), Timeout: soon}).ask(t.Context(), plainDial, netip.AddrPortFrom(to.Addr(), 1), version); err != nil {
			t.Fatal(err)
		}
		if got := string(<-got); got != "" {
			t.Errorf("version %d: another port heard %q", version, got)
		}
	}
}

// A pod is shut down and comes back, on real sockets and with the real time.
func TestFromFailureToReturn(t *testing.T) {
	s := Settings{Passive: Passive{Failures: 2, Base: 300 * time.Millisecond, Max: time.Second, MaxEjected: 0.5}}
	p := NewProber(plainDial)
	defer p.Close()
	changes := make(chan Change, 10)
	d := New(p, "tcp", s, func(c Change) { changes <- c })
	defer d.Close()
	l := &lab{t: t, d: d, pickers: map[string]balancer.Picker{}, members: map[string][]netip.AddrPort{}}
	good, bad := server(hangs())(t), nobody(t)
	l.serve("cluster", good, bad)
	for range 2 {
		_, err := plainDial(t.Context(), "tcp", bad)
		d.Report(bad, err)
	}
	out := <-changes
	l.wantUsed("cluster", good)
	netns.Eventually(t, "a probe that fails", func() error {
		if p.Stats().Bad == 0 {
			return fmt.Errorf("the stats are %+v", p.Stats())
		}
		return nil
	})
	l.wantUsed("cluster", good)
	var listener net.Listener
	netns.Eventually(t, "the port", func() (err error) { // a probe may have it for a moment
		listener, err = net.Listen("tcp", bad.String())
		return err
	})
	defer listener.Close()
	netns.Eventually(t, "the return", func() error {
		if d.Out("cluster", bad) {
			return errors.New("it is still out")
		}
		return nil
	})
	l.wantUsed("cluster", good, bad)
	if in := <-changes; !out.Out || in.Out || in.Cause != ByProbe {
		t.Errorf("the changes are %+v and %+v", out, in)
	}
}

func TestWhoseFaultAnErrorIs(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOPROTOOPT, unix.EACCES} {
		if isOurs(&net.OpError{Op: "dial", Err: errno}) {
			t.Errorf("%v is taken for our own", errno)
		}
	}
	for _, errno := range []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EADDRNOTAVAIL, unix.EADDRINUSE, unix.EINVAL, unix.EAFNOSUPPORT} {
		if !isOurs(&net.OpError{Op: "dial", Err: errno}) {
			t.Errorf("%v is taken for the endpoint's", errno)
		}
	}
}
