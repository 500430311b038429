package policies

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience is far more than anything takes that is not waiting on purpose.
const patience = 20 * time.Second

// question and reply are what a client and an endpoint say.
const question, reply = "how are you?\n", "well\n"

// An endpoint is a server that takes its time to answer one question of each client. It refuses
// until it is up.
type endpoint struct {
	addr  netip.AddrPort
	takes time.Duration // 50 % more or less

	mu       sync.Mutex
	listener *net.TCPListener // nil while it refuses
	all      sync.WaitGroup
}

// endpointAddr is the address of the nth endpoint.
func endpointAddr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 2, 0, byte(n)}), 9000)
}

// up makes it answer.
func (e *endpoint) up() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listener != nil {
		return nil
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(e.addr))
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", e.addr, err)
	}
	e.listener = l
	e.all.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			e.serve(c)
		}
	})
	return nil
}

// down makes it refuse. It answers whom it has let in, also those in the backlog, which a close
// would reset.
func (e *endpoint) down() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listener == nil {
		return
	}
	if raw, err := e.listener.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			for {
				c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if err == nil {
					e.serveFile(c)
				} else if err != unix.EINTR && err != unix.ECONNABORTED {
					break
				}
			}
			unix.Shutdown(int(fd), unix.SHUT_RDWR) // listens no more
		})
	}
	e.listener.Close()
	e.listener = nil
}

func (e *endpoint) serveFile(fd int) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	if c, err := net.FileConn(f); err == nil {
		e.serve(c)
	}
}

// serve answers one client.
func (e *endpoint) serve(c net.Conn) {
	e.all.Go(func() {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, make([]byte, len(question))); err != nil {
			return
		}
		time.Sleep(e.takes/2 + rand.N(e.takes))
		io.WriteString(c, reply)
	})
}

// flap makes it go down and up by turns until ctx is done.
func (e *endpoint) flap(ctx context.Context, period time.Duration) error {
	turn := time.NewTicker(period)
	defer turn.Stop()
	for up := true; ; up = !up {
		if !up {
			e.down()
		} else if err := e.up(); err != nil {
			return err
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// A blackhole is an endpoint that answers no SYN, as its backlog is full.
type blackhole struct {
	addr netip.AddrPort
	fd   int
	full net.Conn // fills the backlog
}

func newBlackhole(addr netip.AddrPort) (*blackhole, error) {
	b := &blackhole{addr: addr}
	var err error
	if b.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Connections that have ended may still keep the address.
	unix.SetsockoptInt(b.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err = unix.Bind(b.fd, &unix.SockaddrInet4{Addr: b.addr.Addr().As4(), Port: int(b.addr.Port())}); err == nil {
		err = unix.Listen(b.fd, 0) // room for one
	}
	if err == nil {
		b.full, err = net.DialTimeout("tcp", b.addr.String(), patience)
	}
	if err != nil {
		unix.Close(b.fd)
		return nil, fmt.Errorf("blackhole %s: %w", b.addr, err)
	}
	return b, nil
}

func (b *blackhole) close() {
	b.full.Close()
	unix.Close(b.fd)
}
