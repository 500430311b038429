package proxier

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/tcp/tcptest"
)

// talking is a client of vip that has got an echo.
func (s *scene) talking() net.Conn {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", vip, patience)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * patience))
	if err := talk(c); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func talk(c net.Conn) error {
	if _, err := io.WriteString(c, "?"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestIdleConnectionOfAServiceEnds(t *testing.T) {
	s := newScene(t)
	s.set(with(asking("idle-timeout=1s"), serveTCP(t, echoes))...)
	s.eventually("the Service is served", func() error { return echoedAt(vip) })
	s.record()
	busy, idle := s.talking(), s.talking()
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(idle)
		ended <- err
	}()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if err := talk(busy); err != nil {
			t.Fatalf("the connection on which something moves got %v after %v", err, time.Since(began))
		}
		if len(ended) > 0 && time.Since(began) > 3*time.Second {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("the idle connection goes on")
		}
	}
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the idle client got %v, want a reset", err)
	}
	r := s.record()
	if r.Client != addrPort(idle.LocalAddr()) || r.Reason != observe.IdleTimeout || r.Duration < time.Second || r.SentClient != observe.CloseRST || r.SentBackend != observe.CloseRST {
		t.Errorf("the record of the idle one says %+v", r)
	}
	busy.Close()
	if r := s.record(); r.Client != addrPort(busy.LocalAddr()) || r.Reason != observe.OK {
		t.Errorf("the record of the other one says %+v", r)
	}
}

func TestConnectionOfAServiceGetsTooOld(t *testing.T) {
	s := newScene(t)
	s.set(with(asking("max-connection-duration=1s"), serveTCP(t, echoes))...)
	s.eventually("the Service is served", func() error { return echoedAt(vip) })
	s.record()
	c := s.talking()
	for talk(c) == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if r := s.record(); r.Reason != observe.MaxDuration || r.Duration < time.Second {
		t.Errorf("the record says %+v", r)
	}
}

// dialled connects and closes.
func dialled(addr string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return "", err
	}
	return "", c.Close()
}

// echoedAt connects to an echo, and closes when the other side has. A listener that is just
// being opened may take a connection and drop it: that has no record.
func echoedAt(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

// liveness is what the kernel knows of the socket of this process that is connected to peer.
func liveness(peer netip.AddrPort) (l tcp.Liveness, err error) {
	fd := 0
	for ; ; fd++ {
		if fd == limit.Files() {
			return l, fmt.Errorf("no socket is connected to %s", peer)
		}
		name, _ := unix.Getpeername(fd)
		if v4, ok := name.(*unix.SockaddrInet4); ok && netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port)) == peer {
			break
		}
	}
	return tcptest.Liveness(fd)
}

// clientSide is what the kernel knows of usher's socket to a client.
func clientSide(t *testing.T, client net.Conn) tcp.Liveness {
	t.Helper()
	l, err := liveness(addrPort(client.LocalAddr()))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Clients have from the listening socket what their Service asks for. It changes for those
// that come, not for those that are there.
func TestServiceChangesItsKeepAlive(t *testing.T) {
	const second = time.Second
	s := newScene(t)
	endpoint := serveTCP(t, echoes)
	s.set(with(asking(), endpoint)...)
	s.eventually("the Service is served", func() error { return echoedAt(vip) })
	s.record()
	usual := tcp.Liveness{KeepAlive: tcp.KeepAlive{Idle: 30 * second, Interval: 15 * second, Count: 4}}
	first := s.talking()
	if l := clientSide(t, first); l != usual {
		t.Errorf("the socket of a client has %+v, want %+v", l, usual)
	}
	for _, step := range []struct {
		wishes []string
		want   tcp.Liveness
	}{
		{[]string{"tcp-keepalive=40s,7s,3", "tcp-user-timeout=50s"},
			tcp.Liveness{KeepAlive: tcp.KeepAlive{Idle: 40 * second, Interval: 7 * second, Count: 3}, UserTimeout: 50 * second}},
		{[]string{"tcp-keepalive=off", "tcp-user-timeout=50s"}, tcp.Liveness{UserTimeout: 50 * second}},
		{nil, usual},
	} {
		s.set(with(asking(step.wishes...), endpoint)...)
		s.eventually(fmt.Sprintf("new connections of %q have %+v", step.wishes, step.want), func() error {
			c := s.talking()
			defer func() { c.Close(); s.record() }()
			if l := clientSide(t, c); l != step.want {
				return fmt.Errorf("they have %+v", l)
			}
			if l := clientSide(t, first); l != usual {
				t.Errorf("the socket of a client that was there has %+v", l)
			}
			return nil
		})
	}
	// A Service without endpoints refuses, and listens again later.
	s.set(asking("tcp-keepalive=41s"))
	s.refused(vip)
	s.set(with(asking("tcp-keepalive=41s"), endpoint)...)
	s.eventually("the Service is served again", func() error { return echoedAt(vip) })
	s.record()
	if l := clientSide(t, s.talking()); l.KeepAlive.Idle != 41*second {
		t.Errorf("the socket of a client has %+v", l)
	}
}

// An endpoint's socket has it when the connection is old enough for it to matter.
func TestEndpointsSocketHasTheKeepAliveOfItsService(t *testing.T) {
	s := newScene(t)
	endpoint := serveTCP(t, echoes)
	s.set(with(asking("tcp-keepalive=2s,3s,5", "tcp-user-timeout=9s"), endpoint)...)
	s.eventually("the Service is served", func() error { return echoedAt(vip) })
	s.record()
	s.talking()
	want := tcp.Liveness{KeepAlive: tcp.KeepAlive{Idle: 2 * time.Second, Interval: 3 * time.Second, Count: 5}, UserTimeout: 9 * time.Second}
	s.eventually("the socket to the endpoint has what was asked for", func() error {
		l, err := liveness(endpoint)
		if err == nil && l != want {
			err = fmt.Errorf("it has %+v", l)
		}
		return err
	})
}
