package proxier

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

func loopbackSocket(t *testing.T) *streamSocket {
	t.Helper()
	s, err := openStream(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// freeAddr is an address on which nobody listens.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return addrPort(ln.Addr())
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

func dialTCP(addr netip.AddrPort) (net.Conn, error) {
	return net.DialTimeout("tcp", addr.String(), patience)
}

func wantRefused(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	conn, err := dialTCP(addr)
	if err == nil {
		conn.Close()
		t.Fatalf("%s: connected, want it to be refused", addr)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%s: %v, want ECONNREFUSED", addr, err)
	}
}

// greet answers every connection and closes it.
func greet(conn *tcp.Conn, _ netip.AddrPort) guest {
	conn.Write([]byte("hello"))
	conn.Close()
	return nil
}

func wantServed(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	conn, err := dialTCP(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Fatalf("%s: got %q, %v", addr, got, err)
	}
}

func ignore(error) {}

// anyPollers are for sockets that no Proxier has opened.
var anyPollers = func() *tcp.Pollers {
	p, err := tcp.NewPollers(runtime.GOMAXPROCS(0))
	if err != nil {
		panic(err)
	}
	return p
}()

func TestSocketRefusesAndServesInTurn(t *testing.T) {
	s := loopbackSocket(t)
	for range 3 {
		wantRefused(t, s.addr)
		if err := s.serve(anyPollers, greet, ignore); err != nil {
			t.Fatal(err)
		}
		wantServed(t, s.addr)
		wantServed(t, s.addr)
		if err := s.refuse(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusingSocketKeepsEstablishedConnections(t *testing.T) {
	s := loopbackSocket(t)
	accepted := make(chan *tcp.Conn, 1)
	s.serve(anyPollers, func(c *tcp.Conn, peer netip.AddrPort) guest { accepted <- c; return nil }, ignore)
	client, err := dialTCP(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server := <-accepted
	if err := s.refuse(); err != nil {
		t.Fatal(err)
	}
	greet(server, netip.AddrPort{})
	if got, err := io.ReadAll(client); string(got) != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := s.serve(anyPollers, greet, ignore); err != nil {
		t.Fatalf("serve again beside remains of old connections: %v", err)
	}
	wantServed(t, s.addr)
}

func TestNobodyCanTakeThePortOfASocket(t *testing.T) {
	s := loopbackSocket(t)
	for _, state := range []string{"refusing", "serving"} {
		if ln, err := net.Listen("tcp", s.addr.String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: another listener got the port: %v, %v", state, ln, err)
		}
		if other, err := openStream(s.addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: another socket got the port: %v, %v", state, other, err)
		}
		s.serve(anyPollers, greet, ignore)
	}
}

func TestOpenSocketWhereSomebodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := openStream(addrPort(ln.Addr())); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want EADDRINUSE", err)
	}
}

// After a restart the old process' connections are in TIME_WAIT on the port.
func TestSocketReturnsToItsPortAfterARestart(t *testing.T) {
	s := loopbackSocket(t)
	s.serve(anyPollers, greet, ignore)
	for range 20 {
		wantServed(t, s.addr)
	}
	s.close()
	again, err := openStream(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.close)
	again.serve(anyPollers, greet, ignore)
	wantServed(t, again.addr)
}

func TestSocketIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := addrPort(ln.Addr())
	ln.Close()
	s, err := openStream(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	wantRefused(t, addr)
	s.serve(anyPollers, greet, ignore)
	wantServed(t, addr)
	s.refuse()
	wantRefused(t, addr)
}

// An accept loop that is out of files must not keep a socket from refusing.
func TestSocketRefusesWhileOutOfFiles(t *testing.T) {
	s := loopbackSocket(t)
	failed := make(chan error, 1000)
	s.serve(anyPollers, greet, func(err error) { failed <- err })
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	low := limit
	low.Cur = 3 // less than are open
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	to := tcp.Sockaddr(s.addr)
	if err := unix.Connect(client, to); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, syscall.EMFILE) {
		t.Errorf("accept says %v", err)
	}
	refused := make(chan error, 1)
	go func() { refused <- s.refuse() }()
	select {
	case err := <-refused:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the socket goes on serving")
	}
}
