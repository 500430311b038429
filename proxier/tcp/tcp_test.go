package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

func newPollers(t *testing.T) *Pollers {
	t.Helper()
	p, err := NewPollers(runtime.GOMAXPROCS(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// server is a peer in the runtime's own way.
func server(t *testing.T) (addr netip.AddrPort, accept func() *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return netip.MustParseAddrPort(ln.Addr().String()), func() *net.TCPConn {
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		return conn.(*net.TCPConn)
	}
}

func connect(t *testing.T, p *Poller, to netip.AddrPort) *Conn {
	t.Helper()
	c, err := Connect(t.Context(), Target{Addr: to, Poller: p}, time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// events is a handler that passes on what it is told.
type events chan Events

func (e events) Ready(_ *Poller, what Events) { e <- what }

func (e events) next(t *testing.T) Events {
	t.Helper()
	select {
	case what := <-e:
		return what
	case <-time.After(patience):
		t.Fatal("nothing happens")
		return 0
	}
}

func TestReadingAndWriting(t *testing.T) {
	addr, accept := server(t)
	c := connect(t, newPollers(t).For(nil), addr)
	peer := accept()
	buf := make([]byte, 10)
	if n, err := c.Read(buf); n != 0 || err != ErrWait {
		t.Errorf("nothing was sent, and read says %d, %v", n, err)
	}
	if err := c.Peek(); err != ErrWait {
		t.Errorf("peek says %v", err)
	}
	told := make(events, 10)
	c.Watch(told)
	peer.Write([]byte("hello"))
	if e := told.next(t); !e.Readable() || e.Ending() || e.Over() {
		t.Errorf("bytes have come: %b", e)
	}
	if err := c.Peek(); err != nil {
		t.Errorf("peek says %v", err)
	}
	if n, err := c.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	peer.CloseWrite()
	if e := told.next(t); !e.Readable() || !e.Ending() || e.Over() {
		t.Errorf("the FIN has come: %b", e)
	}
	if err := c.Peek(); err != io.EOF {
		t.Errorf("peek says %v", err)
	}
	if _, err := c.Read(buf); err != io.EOF {
		t.Errorf("read says %v", err)
	}
	if c.Closed() {
		t.Error("one direction is still open")
	}
	c.Write([]byte("bye"))
	c.CloseWrite()
	if got, err := io.ReadAll(peer); string(got) != "bye" || err != nil {
		t.Errorf("the peer got %q, %v", got, err)
	}
}

func TestReset(t *testing.T) {
	addr, accept := server(t)
	p := newPollers(t).For(nil)
	c := connect(t, p, addr)
	peer := accept()
	told := make(events, 10)
	c.Watch(told)
	peer.SetLinger(0)
	peer.Close()
	if e := told.next(t); !e.Over() {
		t.Errorf("it was reset: %b", e)
	}
	if err := c.Err(); !errors.Is(err, syscall.ECONNRESET) || !c.Closed() {
		t.Errorf("the error is %v", err)
	}
	if err := c.Err(); err != nil {
		t.Errorf("asked again it is %v", err)
	}

	c = connect(t, p, addr)
	peer = accept()
	c.Reset()
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer got %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// A peer that reads nothing stops the writer, and is told of when it reads again.
func TestNoRoomToWrite(t *testing.T) {
	addr, accept := server(t)
	c := connect(t, newPollers(t).For(nil), addr)
	peer := accept()
	told := make(events, 10)
	c.Watch(told)
	chunk := make([]byte, 1<<20)
	sent := 0
	for err := error(nil); err != ErrWait; {
		var n int
		n, err = c.Write(chunk)
		if sent += n; err != nil && err != ErrWait {
			t.Fatal(err)
		}
	}
	if err := c.WantWrite(); err != nil {
		t.Fatal(err)
	}
	if n := c.Unsent(); n == 0 {
		t.Error("everything was taken")
	}
	go io.CopyN(io.Discard, peer, int64(sent))
	if e := told.next(t); !e.Writable() {
		t.Errorf("there is room: %b", e)
	}
}

// Whoever watches is told of what is there already, and who has watched before of nothing
// more.
func TestWatchingAnew(t *testing.T) {
	addr, accept := server(t)
	c := connect(t, newPollers(t).For(nil), addr)
	peer := accept()
	first, second := make(events, 10), make(events, 10)
	c.Watch(first)
	peer.Write([]byte("1"))
	first.next(t)
	c.Watch(second)
	second.next(t)
	c.Unwatch()
	peer.Write([]byte("2"))
	c.Watch(second)
	second.next(t)
	if len(first) > 0 {
		t.Error("the first was told more")
	}
}

func TestConnectFails(t *testing.T) {
	p := newPollers(t).For(nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := netip.MustParseAddrPort(ln.Addr().String())
	ln.Close()
	limit := time.Now().Add(patience)
	if _, err := Connect(t.Context(), Target{Addr: free, Poller: p}, limit); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	odd := errors.New("odd")
	if _, err := Connect(t.Context(), Target{Addr: free, Poller: p, Prepare: func(int) error { return odd }}, limit); err != odd {
		t.Errorf("the socket cannot be prepared: %v", err)
	}
	from := netip.MustParseAddr("192.0.2.1")
	if _, err := Connect(t.Context(), Target{Addr: free, Poller: p, From: from}, limit); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("from an address that is not there: %v", err)
	}
}

// The kernel may choose the very port that is connected to: that is nobody's answer.
func TestConnectToOneself(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := netip.MustParseAddrPort(ln.Addr().String())
	ln.Close()
	to := Target{Addr: free, Poller: newPollers(t).For(nil), Prepare: func(fd int) error { return unix.Bind(fd, Sockaddr(free)) }}
	if c, err := Connect(t.Context(), to, time.Now().Add(patience)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", c, err)
	}
}

// Nobody accepts, and the queue is full: the kernel drops what comes.
func TestConnectWaits(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	addr, _ := name(fd)
	to := Target{Addr: addr, Poller: newPollers(t).For(nil)}
	first, err := Connect(t.Context(), to, time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := Connect(t.Context(), to, time.Now().Add(50*time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Connect(ctx, to, time.Now().Add(patience)); err != context.Canceled {
		t.Errorf("after the cancellation: %v", err)
	}
	accepted := make(chan error, 1)
	time.AfterFunc(20*time.Millisecond, func() {
		conn, _, err := unix.Accept(fd)
		unix.Close(conn)
		accepted <- err
	})
	late, err := Connect(t.Context(), to, time.Now().Add(patience)) // with the second SYN
	if err != nil {
		t.Errorf("after there is room: %v", err)
	} else {
		late.Close()
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}

// door accepts and greets.
type door struct {
	*Listener
	by       sync.Map // pollers that have accepted
	accepted atomic.Int64
}

func (d *door) Ready(p *Poller, _ Events) {
	for {
		c, peer, err := d.Accept(p)
		if err != nil {
			return
		}
		if !peer.IsValid() || c.Poller() != p {
			panic("who is it?")
		}
		d.by.Store(p, true)
		d.accepted.Add(1)
		c.Write([]byte("hello"))
		c.Close()
	}
}

func listen(t *testing.T) (*Listener, string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(fd)
	t.Cleanup(func() { l.Close() })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1000)); err != nil {
		t.Fatal(err)
	}
	addr, _ := name(fd)
	return l, addr.String()
}

// A poller keeps what it has accepted, up to a few more than others have.
func TestConnectionsAreSpread(t *testing.T) {
	all, err := NewPollers(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(all.Close)
	addr, _ := server(t)
	by, h := all.all[0], make(events, 100)
	for range 100 {
		if err := connect(t, all.For(by), addr).Watch(h); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := all.all[0].n.Load(), all.all[1].n.Load(); a+b != 100 || a-b < 1 || a-b > stays+1 {
		t.Errorf("the one that has accepted them has %d, the other one %d", a, b)
	}
	if p := all.For(nil); p != all.all[1] {
		t.Error("what nobody has accepted is not for the one that has least")
	}
}

func TestEveryPollerAccepts(t *testing.T) {
	l, addr := listen(t)
	all := newPollers(t) // closed before the listener: until then they accept
	d := &door{Listener: l}
	if err := l.Watch(all, d); err != nil {
		t.Fatal(err)
	}
	pollers := func() (n int) {
		d.by.Range(func(any, any) bool { n++; return true })
		return n
	}
	deadline := time.Now().Add(patience)
	for n := int64(0); pollers() < len(all.all); {
		var clients sync.WaitGroup
		for range 20 {
			n++
			clients.Go(func() { greeted(t, addr) })
		}
		clients.Wait()
		if d.accepted.Load() != n {
			t.Fatalf("%d of %d were accepted", d.accepted.Load(), n)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d pollers accept", pollers(), len(all.all))
		}
	}
	l.Unwatch()
	conn := waits(t, addr)
	if err := l.Watch(all, d); err != nil { // who waits is told of
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// waits is a client that nobody accepts, after others that a poller may still do at that moment.
func waits(t *testing.T, addr string) net.Conn {
	t.Helper()
	for range 10 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			return conn
		}
	}
	t.Fatal("a listener that nobody watches accepts")
	return nil
}

func greeted(t *testing.T, addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// patient is a handler that waits.
type patient struct {
	handOver bool
	begun    chan bool
	end      chan bool
}

func (h *patient) Ready(p *Poller, _ Events) {
	if h.handOver {
		p.HandOver()
	}
	h.begun <- true
	<-h.end
}

// A handler that blocks keeps nobody waiting if it says so before.
func TestHandOver(t *testing.T) {
	addr, accept := server(t)
	p := newPollers(t).For(nil)
	goroutines := runtime.NumGoroutine()
	const n = 10
	h := &patient{handOver: true, begun: make(chan bool, 2*n), end: make(chan bool)}
	goOn := sync.OnceFunc(func() { close(h.end) })
	defer goOn()
	for range n {
		connect(t, p, addr).Watch(h)
		accept().Write([]byte("1"))
		select {
		case <-h.begun:
		case <-time.After(patience):
			t.Fatal("another handler is waited for")
		}
	}
	goOn()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), goroutines)
		}
		runtime.Gosched()
	}
	other := make(events, 1)
	connect(t, p, addr).Watch(other)
	accept().Write([]byte("1"))
	other.next(t)
}

// What is still to be told of a socket that is closed is not told of the next one that has
// its place.
func TestSocketsThatFollowEachOther(t *testing.T) {
	addr, accept := server(t)
	p := newPollers(t).For(nil)
	block := &patient{begun: make(chan bool, 10), end: make(chan bool)}
	goOn := sync.OnceFunc(func() { close(block.end) })
	defer goOn()
	blocker := connect(t, p, addr)
	blocker.Watch(block)
	peerOfBlocker := accept()
	old, told := connect(t, p, addr), make(events, 10)
	old.Watch(told)
	peerOfOld := accept()
	peerOfBlocker.Write([]byte("1"))
	<-block.begun // whatever happens now is told of in one batch
	peerOfOld.Write([]byte("1"))
	slot := old.slot
	old.Close()
	next, toldNext := connect(t, p, addr), make(events, 10)
	next.Watch(toldNext)
	accept()
	if next.slot != slot {
		t.Fatalf("it has the place %d, not %d", next.slot, slot)
	}
	goOn()
	last, toldLast := connect(t, p, addr), make(events, 10)
	last.Watch(toldLast)
	accept().Write([]byte("1"))
	toldLast.next(t)
	if len(told)+len(toldNext) > 0 {
		t.Errorf("the old one was told %d times, the next one %d times", len(told), len(toldNext))
	}
}
