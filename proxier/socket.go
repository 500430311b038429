package proxier

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// socket is one bound address that clients of a Port arrive at. Its state is the
// answer that they get. It belongs to the reconcile loop, and is of one of two
// protocols.
type socket struct {
	addr netip.AddrPort
	// set is the one for which clients arrive here; empty: each client's.
	set Set
	// frontend is the one whose clients arrive here, if that is known: a redirected
	// datagram no longer tells which address it was sent to.
	frontend Frontend

	stream *streamSocket
	packet *packetSocket
	// readers counts the files that UDP sockets have beside their own, files are this
	// one's.
	readers *atomic.Int64
	files   int64
}

// opener opens a socket that refuses clients. It fails with EADDRINUSE if
// somebody else has the address.
type opener func(netip.AddrPort) (*socket, error)

// open opens a socket of the listener's protocol.
func (l *listener) open(addr netip.AddrPort) (s *socket, err error) {
	s = &socket{addr: addr}
	had, fd, inherits := l.inheritance.Load().take(l.key.String(), addr)
	switch {
	case l.key.Protocol == udpProtocol:
		s.readers, s.files = &l.connections.readers, int64(l.packets.Readers())
		if inherits {
			s.packet, err = l.adoptPacket(had.Packets)
			if n := len(had.Packets.State.Readers); n > 0 { // however many a new one has
				s.files = int64(n)
			}
		} else {
			s.packet, err = openPacket(l.packets, addr, l.shared.sessions)
		}
	case inherits:
		s.stream = adoptStream(fd, addr, had.Listens)
	default:
		s.stream, err = openStream(addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if s.packet != nil {
		s.readers.Add(s.files)
	}
	return s, nil
}

// give makes want the answer from now on, and has the listener serve by its
// current state.
func (s *socket) give(want answer, l *listener) error {
	if s.packet != nil {
		return s.packet.give(want, &packetServer{listener: l, state: l.current.Load(), set: s.set, only: s.frontend})
	}
	if err := s.stream.probe(l.current.Load().port.Settings.Relay.Peer); err != nil {
		return err
	}
	if s.stream.now.equal(want) {
		return nil // before closures are made that nobody needs
	}
	hello := func(client *tcp.Conn, peer netip.AddrPort) guest { return l.accept(client, peer, s.set) }
	return s.stream.give(want, l.pollers, hello, l.acceptFailed)
}

// close gives the address up. Connections already accepted go on; UDP sessions
// end for the given reason.
func (s *socket) close(reason observe.Reason) {
	if s.packet != nil {
		s.packet.Close(reason)
		s.readers.Add(-s.files)
	} else {
		s.stream.close()
	}
}

// rest accepts nobody until goOn: who comes waits. Datagrams are for packetSocket.Release.
func (s *socket) rest() {
	if s.stream != nil {
		s.stream.rest()
	}
}

func (s *socket) goOn() error {
	if s.stream == nil {
		return nil
	}
	return s.stream.goOn()
}

// spare tells whether a new socket leaves enough files for iptables and the API
// server. It may be from the first half of the reserve: when there are as many
// connections as there may be, a new Service is served all the same, and as
// connections end the reserve is whole again.
func spare(fd int) error {
	if fd >= limit.Files()-limit.Reserve/2 {
		return os.NewSyscallError("socket", unix.EMFILE)
	}
	return nil
}
