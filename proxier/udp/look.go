package udp

import (
	"time"
)

// Live is a session that has not ended.
type Live struct {
	Session
	Server Server        // that serves it
	Idle   time.Duration // since its last datagram, in either direction
}

// lookAtOnce is how many files a loop looks at for somebody who asks, before it sees to
// datagrams again: some microseconds.
const lookAtOnce = 256

// Look calls see with all sessions there are, in no particular order. Each loop copies
// some of its own at a time, between two batches of datagrams: those that begin or end
// meanwhile may be left out. Live has neither LocalPort nor Reason. It may be called at
// any time, but not by a Server.
func (r *Relay) Look(see func(Live)) {
	some := make([]Live, 0, lookAtOnce)
	for _, l := range r.loops {
		for begin, more := 0, true; more; begin += lookAtOnce {
			some, more = some[:0], false
			l.do(func() { some, more = l.look(some, begin) })
			for _, s := range some {
				see(s)
			}
		}
	}
}

// look appends the sessions among some files from a number on, and says whether there are
// files beyond.
func (l *loop) look(to []Live, begin int) (_ []Live, more bool) {
	now := l.table.now()
	end := min(begin+lookAtOnce, len(l.files))
	for _, f := range l.files[min(begin, end):end] {
		if s, ok := f.(*session); ok {
			to = append(to, Live{s.story, s.server, max(0, now-time.Duration(s.used.Load()))})
		}
	}
	return to, end < len(l.files)
}
