package udp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// wantRefused fails unless the kernel refuses what the client sends.
func (c *client) wantRefused() {
	c.t.Helper()
	c.Write([]byte("to nobody")) // this may fail already if a former one was refused
	if got, err := c.hearOr(patience); !errors.Is(err, unix.ECONNREFUSED) {
		c.t.Errorf("the client is not refused, but hears %q, %v", got, err)
	}
}

func TestRefuseAndServe(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1", "0.0.0.0", "::"} {
		for _, readers := range []int{1, 2} {
			t.Run(addr, func(t *testing.T) {
				l := newLab(t, setup{addr: addr, loops: 2, readers: readers})
				b := echo(t, reachable(l.socket.Addr()).Addr().String())
				c := l.client()
				c.wantRefused()
				l.serve(b.addr)
				for range 3 {
					if got := c.ask("served"); got != "served" {
						t.Errorf("the client hears %q", got)
					}
					l.socket.Refuse()
					c.wantRefused()
					c.wantRefused()
					l.serve(b.addr)
				}
				if got := b.received(); !slices.Equal(got, []string{"served", "served", "served"}) {
					t.Errorf("the endpoint got %q", got)
				}
				l.close(observe.ServiceRemoved)
				c.wantRefused()
			})
		}
	}
}

// What waits while Refuse is called never comes to an endpoint, also not when
// the Socket serves again.
func TestNothingOfTheTimeWithoutEndpointsComesLater(t *testing.T) {
	l := newLab(t, setup{})
	before, after := mute(t, "127.0.0.1"), mute(t, "127.0.0.1")
	l.serve(before.addr)
	c := l.client()
	c.send("in time")
	before.sender(t)

	const late = 500
	release := l.hold()
	for range late {
		c.send("late")
	}
	refused := make(chan struct{})
	go func() { defer close(refused); l.socket.Refuse() }()
	awaitTask(t, l.relay.loops[0]) // it takes effect while some still wait
	release()
	<-refused
	c.wantRefused()
	l.serve(after.addr)
	c.send("in time again")
	after.sender(t)
	if got := after.received(); !slices.Equal(got, []string{"in time again"}) {
		t.Errorf("the new endpoint got %q", got)
	}
	l.settle()
	dropped := l.count(observe.DropNoEndpoint)
	if passed := l.in - 2; passed+dropped != late || dropped == 0 {
		t.Errorf("of %d datagrams %d were passed on and %d were counted as dropped", late, passed, dropped)
	}
}

// awaitTask waits until somebody has posted something to a loop that is held.
func awaitTask(t *testing.T, l *loop) {
	t.Helper()
	eventually(t, "a task", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.tasks) > 0
	})
}

// Whatever the Socket does, nobody else gets its address, also with the options
// by which others would share it. Of the unspecified address this holds for all
// addresses while it serves.
func TestNobodyElseGetsTheAddress(t *testing.T) {
	ownAddress(t, "2001:db8:1::1/128")
	for _, c := range []struct {
		addr    string
		always  []string
		serving string
	}{
		{"127.0.0.1", []string{"127.0.0.1", "0.0.0.0"}, "127.0.0.1"},
		{"::1", []string{"::1", "::"}, "::1"},
		{"0.0.0.0", []string{"0.0.0.0", "127.0.0.1"}, "127.0.0.2"},
		{"::", []string{"::", "::1"}, "2001:db8:1::1"},
	} {
		t.Run(c.addr, func(t *testing.T) {
			l := newLab(t, setup{addr: c.addr})
			wantTaken(t, l.socket, c.always...)
			l.serve(dead(t, reachable(l.socket.Addr()).Addr().String()))
			wantTaken(t, l.socket, append(c.always, c.serving)...)
			l.socket.Refuse()
			wantTaken(t, l.socket, c.always...)
		})
	}
}

// wantTaken fails if somebody else can bind the Socket's port at an address.
func wantTaken(t *testing.T, s *Socket, addresses ...string) {
	t.Helper()
	for _, addr := range addresses {
		for _, options := range [][]int{nil, {unix.SO_REUSEADDR}, {unix.SO_REUSEPORT}, {unix.SO_REUSEADDR, unix.SO_REUSEPORT}} {
			if err := bindWith(netip.AddrPortFrom(netip.MustParseAddr(addr), s.Addr().Port()), options); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("somebody else binds %s with options %v: %v", addr, options, err)
			}
		}
	}
}

func bindWith(addr netip.AddrPort, options []int) error {
	family, to := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, option := range options {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, to)
}

// An address that somebody else has is not taken, also if they would share it.
func TestAnAddressThatSomebodyElseHas(t *testing.T) {
	for _, option := range []int{0, unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				if option != 0 {
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1)
				}
			})
		}}
		other, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		must(t, err)
		l := newLab(t, setup{})
		if s, err := l.relay.Listen(other.LocalAddr().(*net.UDPAddr).AddrPort(), l.group); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("with option %d: %v, %v", option, s, err)
		}
		other.Close()
	}
}

// An address that is not ours can be had by the privileged, though no route leads there.
func TestAnAddressOfAnotherMachine(t *testing.T) {
	l := newLab(t, setup{})
	before := files(t)
	s, err := l.relay.Listen(netip.MustParseAddrPort("192.0.2.99:53"), l.group)
	if err == nil {
		s.Close(observe.Shutdown)
	} else if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Error(err)
	}
	if now := files(t); now != before {
		t.Errorf("%d files instead of %d", now, before)
	}
}
