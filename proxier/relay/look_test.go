package relay

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

func areOpen(client, backend *tcp.Conn) bool {
	_, one := unix.GetsockoptTCPInfo(client.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
	_, other := unix.GetsockoptTCPInfo(backend.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
	return one == nil && other == nil
}

func TestLookAtBothConnections(t *testing.T) {
	s := newScene(t, time.Minute)
	open := false
	if !s.relay.Look(func(client, backend *tcp.Conn) { open = areOpen(client, backend) }) || !open {
		t.Error("they are not to be had")
	}
	if client, backend := s.relay.Finished(); client || backend {
		t.Error("a side is said to have closed")
	}
	s.backend.CloseWrite()
	eventually(t, "the backend's FIN", func() error {
		if client, backend := s.relay.Finished(); client || !backend {
			return errors.New("it is not told")
		}
		return nil
	})
	s.client.Close()
	s.end()
	if s.relay.Look(func(_, _ *tcp.Conn) {}) {
		t.Error("they are to be had after the end")
	}
}

func TestLookWhileAnotherBackendIsLookedFor(t *testing.T) {
	s := newReplays(t, time.Minute)
	reset(s.backend)
	s.wantEarly(observe.CloseRST)
	if s.relay.Look(func(_, _ *tcp.Conn) {}) {
		t.Error("a backend is to be had that may be closed at any time")
	}
	s.relay.GiveUp()
	s.end()
}

// Whoever looks while connections end never sees a socket of somebody else.
func TestLookWhileConnectionsEnd(t *testing.T) {
	for range 50 {
		s := newScene(t, time.Minute)
		ended, looked := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(looked)
			for {
				s.relay.Look(func(client, backend *tcp.Conn) {
					if !areOpen(client, backend) {
						t.Error("a connection is closed while somebody looks")
					}
				})
				select {
				case <-ended:
					return
				default:
				}
			}
		}()
		s.client.Close()
		s.backend.Close()
		s.end()
		close(ended)
		<-looked
	}
}
