package limit

import (
	"net/netip"
	"time"
)

// Standing is how a connection of a client would be judged now.
type Standing struct {
	Limits   Limits
	Admitted int // connections at the Gate
	OfClient int // of those: the client's, as far as they are counted
	Waiting  int // for their turn
	Process  int // admitted at all Gates
	Room     int // for connections, in the process
	// Obstacle is the limit that it would meet, empty if there is none.
	Obstacle Kind
}

// Standing tells what Enter would find for a client, without asking to be admitted.
func (g *Gate) Standing(addr netip.Addr) Standing {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.clients[addr.Unmap()]
	if c == nil {
		c = &client{}
	}
	s := Standing{
		Limits: *g.limits.Load(), Admitted: g.Len(), OfClient: c.admitted, Waiting: g.Waiting(),
		Process: g.whole.Len(), Room: g.whole.room().Connections, Obstacle: g.obstacle(c, time.Now()),
	}
	if s.Obstacle == "" && s.Process >= s.Room {
		s.Obstacle = Process
	}
	return s
}
