package proxier

import (
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// manySockets opens sockets on one port of many loopback addresses, that greet.
func manySockets(t *testing.T, n int) (list []*streamSocket) {
	t.Helper()
	free := freeAddr(t)
	for i := range n {
		pid := os.Getpid()
		a := netip.AddrFrom4([4]byte{127, byte(60 + pid%40), byte(1 + i>>8), byte(i)})
		s, err := openStream(netip.AddrPortFrom(a, free.Port()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.close)
		list = append(list, s)
	}
	return list
}

// becomes waits until a test of what this process holds is true.
func becomes(t *testing.T, what string, is func(goroutines, files int) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		goroutines, files := usage(t)
		if is(goroutines, files) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d goroutines, %d files", what, goroutines, files)
		}
	}
}

// A socket takes one file in any state, and a goroutine only while clients come.
func TestIdleSocketsHaveNoGoroutine(t *testing.T) {
	goroutines, files := usage(t)
	const n = 100
	sockets := manySockets(t, n)
	quiet := func(files int) func(g, f int) bool {
		return func(g, f int) bool { return g <= goroutines && f <= files }
	}
	becomes(t, "refusing", quiet(files+n))
	for range 2 {
		for _, s := range sockets {
			if err := s.serve(anyPollers, greet, ignore); err != nil {
				t.Fatal(err)
			}
		}
		becomes(t, "serving, and nobody comes", quiet(files+n))
		for range 2 { // also again after a quiet time
			for _, s := range sockets {
				wantServed(t, s.addr)
			}
			becomes(t, "served, and quiet", quiet(files+n))
		}
		for _, s := range sockets {
			s.refuse()
			wantRefused(t, s.addr)
		}
		becomes(t, "refusing again", quiet(files+n))
	}
}

// Clients that come just when the goroutine of a socket ends are not lost.
func TestClientsThatComeWhenASocketGetsQuiet(t *testing.T) {
	s := loopbackSocket(t)
	if err := s.serve(anyPollers, greet, ignore); err != nil {
		t.Fatal(err)
	}
	for range 3000 { // each comes when the one before has been greeted
		wantServed(t, s.addr)
	}
}

// Whoever waits for the connections of a socket that is closed waits for all of them.
func TestAClosedSocketHasCountedItsClients(t *testing.T) {
	s := loopbackSocket(t)
	counting, goOn := make(chan bool), make(chan bool)
	var counted atomic.Bool
	s.serve(anyPollers, func(c *tcp.Conn, peer netip.AddrPort) guest {
		counting <- true
		<-goOn
		counted.Store(true)
		return greet(c, peer)
	}, ignore)
	client, err := dialTCP(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	<-counting
	closed := make(chan bool)
	go func() {
		s.close()
		if !counted.Load() {
			t.Error("a client was accepted that is not counted")
		}
		close(closed)
	}()
	time.AfterFunc(20*time.Millisecond, func() { close(goOn) })
	<-closed
}

// A socket that refuses and serves in turn, while clients come: each of them is greeted
// or refused, and none hangs.
func TestSocketTurnsWhileClientsCome(t *testing.T) {
	s := loopbackSocket(t)
	var stop atomic.Bool
	hung := make(chan error, 4)
	for range cap(hung) {
		go func() {
			for !stop.Load() {
				conn, err := dialTCP(s.addr)
				if err != nil {
					continue
				}
				conn.SetDeadline(time.Now().Add(patience))
				if _, err = conn.Read(make([]byte, 1)); os.IsTimeout(err) {
					hung <- err
					return
				}
				conn.Close()
			}
			hung <- nil
		}()
	}
	for range 300 {
		if err := s.serve(anyPollers, greet, ignore); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
		if err := s.refuse(); err != nil {
			t.Fatal(err)
		}
	}
	s.serve(anyPollers, greet, ignore) // whoever waits in the backlog is greeted
	stop.Store(true)
	for range cap(hung) {
		if err := <-hung; err != nil {
			t.Error(err)
		}
	}
}

// What is accepted after a socket has refused is for whom it serves then.
func TestEachShiftHasItsOwnHandler(t *testing.T) {
	s := loopbackSocket(t)
	var of [5]atomic.Int64
	for i := range of {
		s.serve(anyPollers, func(c *tcp.Conn, peer netip.AddrPort) guest { of[i].Add(1); return greet(c, peer) }, ignore)
		wantServed(t, s.addr)
		s.refuse()
		wantRefused(t, s.addr)
	}
	for i := range of {
		if n := of[i].Load(); n != 1 {
			t.Errorf("handler %d was given %d connections", i, n)
		}
	}
}
