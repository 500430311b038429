package proxier

import (
	"errors"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/udp"
)

// adoptPacket is a UDP socket whose sessions go on when it is served.
func (l *listener) adoptPacket(c *carriedPacket) (*packetSocket, error) {
	state, err := l.inheritance.Load().packets(c, l)
	if err != nil {
		return nil, err
	}
	return &packetSocket{inherited: &state, relay: l.dataPath.packets, sessions: l.shared.sessions}, nil
}

// route is that of a session of the listener's.
func (l *listener) route(from *carriedRoute) *packetRoute {
	r := &packetRoute{
		frontend: from.Frontend, vip: from.VIP, client: clientKind(from.Client), set: from.Set, eligible: from.Eligible, known: from.Known,
		terminating: from.Terminating, sourceWhy: from.SourceWhy,
	}
	late := &latePick{endpoint: from.Endpoint, set: from.Set}
	r.pick = balancer.Pick{Endpoint: from.Endpoint, Done: late.end, Affinity: from.Affinity}
	h := l.inheritance.Load()
	h.picks[l] = append(h.picks[l], late)
	return r
}

// packets is the state of a UDP socket with its files.
func (h *Inheritance) packets(c *carriedPacket, l *listener) (udp.SocketState, error) {
	s := c.State
	take := func(fd *int) error {
		if *fd < 0 || *fd >= len(c.Files) {
			*fd = -1
			return nil
		}
		taken, ok := h.files.Take(c.Files[*fd])
		if !ok {
			return errors.New("a socket was not handed over")
		}
		*fd = taken
		return nil
	}
	errs := []error{take(&s.FD)}
	for i := range s.Readers {
		errs = append(errs, take(&s.Readers[i].FD))
	}
	for i := range s.Sessions {
		errs = append(errs, take(&s.Sessions[i].FD))
		s.Sessions[i].Route.Of = l.route(&c.Sessions[i])
	}
	return s, errors.Join(errs...)
}
