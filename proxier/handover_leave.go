package proxier

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/instant"
	"github.com/usher-proxy/usher/proxier/udp"
)

// restTime is how long connections have to come to rest. They do at once, but for those in
// the hands of a busy poller.
const restTime = 2 * time.Second

// carrier takes parcels to another process.
type carrier struct {
	// carry does not return if that one has taken the place of this one. When it returns
	// without an error the other one has everything.
	carry func(handover.Parcel) error
	// early takes what rests first; nil: that goes along with the rest, as one of its files.
	early func(handover.Parcel) error
}

// leave brings everything to rest, and has it carried to another process. When that has it
// nothing goes on here, and nothing is to be taken away. With an error everything goes on. It
// belongs to the reconcile loop.
func (p *Proxier) leave(by carrier) error {
	l := &handingOver{Proxier: p, by: by, packets: map[*socket]udp.SocketState{}, early: -1}
	// A collection takes the time that connections wait for, and what is packed is little.
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	parcel, err := l.rest()
	defer l.closeEarly()
	if err == nil {
		err = by.carry(parcel)
	}
	if err != nil {
		l.stay()
	} else {
		l.letGo()
	}
	return err
}

// handingOver is one attempt of it.
type handingOver struct {
	*Proxier
	by        carrier
	trial     bool                        // nothing rests, and no files go along
	departure *departure                  // nil in a trial
	packets   map[*socket]udp.SocketState // that were released

	state    handedOver
	files    []int // of the next parcel, by cookie
	early    int   // the socket in which the early parcel waits, -1 if there is none
	settings map[*annotation.Settings]int
	numbers  map[*listener]int
	packed   int         // of those that rest
	leaving  []*listener // of no Port any more
}

// rest stops everything, and makes a parcel of it. Who comes now waits in the kernel. Those
// who do not wait for anything just now come to rest first, so that others do so shortly.
func (l *handingOver) rest() (parcel handover.Parcel, err error) {
	l.files = handover.SlowToClose()
	busy := l.busy()
	for _, s := range l.allSockets() {
		s.rest()
	}
	l.redirectDenied(func(s *streamSocket) { s.rest() })
	departure, all := l.data.connections.depart()
	l.departure = departure
	if err = l.begin(); err != nil {
		return parcel, err
	}
	departure.gather(slices.DeleteFunc(slices.Clone(all), func(c *connection) bool { return busy[c] }))
	l.packConnections()
	if err = l.post(); err != nil {
		return parcel, err
	}

	l.state.Rested = instant.Of(time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), restTime)
	defer cancel()
	if err = l.releasePackets(); err != nil {
		return parcel, err
	}
	departure.gather(all)
	if err = departure.wait(ctx); err != nil {
		return parcel, err
	}
	return l.pack()
}

// busyLook is how long connections are looked at.
const busyLook = 20 * time.Millisecond

// busy are the connections in which bytes move.
func (l *handingOver) busy() map[*connection]bool {
	all := l.data.connections.all()
	before := make([][2]int64, len(all))
	for i, c := range all {
		before[i][0], before[i][1] = c.moved()
	}
	time.Sleep(busyLook)
	busy := map[*connection]bool{}
	for i, c := range all {
		if in, out := c.moved(); before[i] != [2]int64{in, out} {
			busy[c] = true
		}
	}
	return busy
}

func (l *handingOver) releasePackets() error {
	for _, s := range l.allSockets() {
		if s.packet == nil {
			continue
		}
		state, err := s.packet.Release()
		if err != nil {
			return fmt.Errorf("UDP on %s: %w", s.addr, err)
		}
		l.packets[s] = state
	}
	return nil
}

// stay has everything go on here.
func (l *handingOver) stay() {
	var errs []error
	for s, state := range l.packets {
		errs = append(errs, s.packet.resume(state))
	}
	if l.departure != nil {
		l.data.connections.stay(l.departure)
	}
	for _, s := range l.allSockets() {
		errs = append(errs, s.goOn())
	}
	l.redirectDenied(func(s *streamSocket) { errs = append(errs, s.goOn()) })
	if err := errors.Join(errs...); err != nil {
		l.cfg.Log.WithError(err).Error("after a hand-over that has failed, some sockets cannot go on")
	}
}

// letGo closes what another process has: as long as this one has it too, nobody would see that
// the other one has closed it.
func (l *handingOver) letGo() {
	for _, d := range l.departure.ready {
		d.client.Close()
		if d.backend != nil {
			d.backend.Close()
		}
		if d.state != nil {
			d.state.PipeToBackend.Close()
			d.state.PipeToClient.Close()
		}
	}
	for _, s := range l.allSockets() {
		if s.stream != nil {
			s.stream.ln.Close()
		}
	}
	l.redirectDenied(func(s *streamSocket) { s.ln.Close() })
	for _, state := range l.packets {
		for _, fd := range state.Files() {
			unix.Close(fd)
		}
	}
}

func (l *handingOver) allSockets() (list []*socket) {
	for _, of := range l.serving {
		list = append(list, of.sockets...)
	}
	return list
}

// redirectDenied calls f for the sockets that never answer.
func (p *Proxier) redirectDenied(f func(*streamSocket)) {
	if r, ok := p.data.capture.(*redirect); ok {
		for _, s := range r.denied {
			f(s)
		}
	}
}
