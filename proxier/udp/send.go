package udp

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// send sends slots of the batch to the session's endpoint. If that one has
// refused what was sent before, what is left goes to another one.
func (r *reader) send(s *session, slots []int, now time.Duration) {
	for range maxTries {
		slots = s.send(slots, now)
		if len(slots) == 0 {
			return
		}
		server, again := s.server, s.replay
		if s = r.open(server, s.got, s, true, now); s == nil { // which has counted one
			if again == nil {
				slots = slots[1:]
			}
			server.Dropped(observe.DropNoEndpoint, len(slots))
			return
		}
		s.resend(again, now)
	}
	s.drop(observe.DropRefused, len(slots))
}

// send returns what was not sent because the endpoint has refused what was sent
// before, or cannot be reached. All else is sent, or counted as dropped.
func (s *session) send(slots []int, now time.Duration) (rest []int) {
	if s.fd < 0 { // it had to make room in this very batch
		s.drop(observe.DropSessionLimit, len(slots))
		return nil
	}
	in := s.reader.in
	bytes := in.bytes(slots)
	for _, i := range slots {
		s.reader.sending.add(in, i, &s.there)
	}
	sent := s.reader.sending.send(s.fd, func(i int, err error) bool {
		if isUnreachable(err) && !errors.Is(err, unix.EPERM) { // which is a firewall of our own
			s.refuse(now)
			rest = slots[i:]
			bytes -= in.bytes(rest)
			return false
		}
		s.drop(causeOf(err), 1)
		bytes -= in.bytes(slots[i : i+1])
		return true
	})
	if sent > 1 && s.refusedAtOnce() { // many are worth to ask
		s.avoid(now)
		return slots
	}
	if sent == 0 {
		return rest
	}
	s.keepForReplay(in.datagram(slots[0]), sent)
	s.story.In += int64(sent)
	s.story.BytesIn += int64(bytes)
	s.reader.passed += sent
	s.reader.passedBytes += bytes
	s.sent(now)
	s.active(now)
	return rest
}

func (s *session) drop(cause observe.DropCause, n int) {
	s.story.Dropped += int64(n)
	s.server.Dropped(cause, n)
}

// keepForReplay keeps the first datagram until there is a second one or a reply.
func (s *session) keepForReplay(datagram []byte, sent int) {
	switch {
	case s.story.In > 0 || sent > 1:
		s.replay = nil
	case len(datagram) > 0 && len(datagram) <= maxReplay:
		s.replay = append([]byte(nil), datagram...)
	}
}

// active tells the Table that a datagram has passed.
func (s *session) active(now time.Duration) {
	if c := s.classify(); c != s.class {
		s.reader.table.move(&s.entry, c, now)
	} else {
		s.reader.table.touch(&s.entry, now)
	}
}

func (s *session) classify() class {
	switch {
	case s.class == left:
		return left
	case s.story.Out == 0 && s.story.In <= 1:
		return fresh
	case s.story.Out == 0:
		return oneWay
	case s.story.Out == 1 && s.story.In <= 1:
		return answered
	}
	return known
}

// replies are on their way back to clients, by one socket.
type replies struct {
	batch   *batch
	sending outgoing
	n       int
	socket  *Socket
	of      [batchSize]*session
}

// maxReplies is how many replies of one session are taken in a row: then others
// have their turn.
const maxReplies = 8

// readable takes the replies that wait for a session's client.
func (s *session) readable(now time.Duration) {
	out := s.reader.out
	if out.socket != s.reader.socket || out.n+maxReplies > batchSize {
		out.flush()
	}
	out.socket = s.reader.socket
	want := maxReplies
	if s.story.In-s.story.Out == 1 { // then there is one
		want = 1
	}
	n, err := out.batch.receive(s.fd, out.n, want, false)
	if err != nil {
		s.failed(err, now)
		return
	}
	if s.story.Out == 0 {
		s.story.FirstReply = time.Since(s.story.Start)
		s.replay = nil
	}
	for range n {
		out.add(s)
	}
	s.story.Out += int64(n)
	s.awaiting, s.replied = false, now
	s.reader.refusals.answered(s.story.Route.To)
	s.active(now)
}

// add addresses the reply in the next slot.
func (o *replies) add(s *session) {
	i := o.n
	length := int(o.batch.headers[i].length)
	s.story.BytesOut += int64(length)
	o.sending.add(o.batch, i, &s.back)
	o.of[i] = s
	o.n++
}

// flush sends the replies.
func (o *replies) flush() {
	if o.n == 0 {
		return
	}
	server := o.socket.server()
	bytes := 0
	for i := range o.n {
		bytes += int(o.batch.headers[i].length)
	}
	sent := o.sending.send(o.socket.fd, func(i int, err error) bool {
		o.of[i].drop(causeOf(err), 1)
		bytes -= int(o.batch.headers[i].length)
		return true
	})
	server.Datagrams(0, 0, sent, bytes)
	clear(o.of[:o.n])
	o.n = 0
}

// failed takes an error that the kernel has kept for a session: as a rule the
// endpoint's host says that nobody listens there.
func (s *session) failed(err error, now time.Duration) {
	if !isUnreachable(err) {
		if !errors.Is(err, unix.EAGAIN) { // a datagram that was too large for some router
			s.drop(causeOf(err), 1)
		}
		return
	}
	again := s.replay
	s.refuse(now)
	if again == nil {
		return
	}
	if s.reader.flows[s.got.flow] != s || s.reader.fd < 0 { // no other endpoint is to have it
		s.drop(observe.DropRefused, 1)
		return
	}
	if next := s.reader.open(s.reader.socket.server(), s.got, s, false, now); next != nil {
		next.resend(again, now)
	}
}

// refuse notes that the endpoint does not want what it is sent. Unless it can be
// offered to another one, a datagram is lost.
func (s *session) refuse(now time.Duration) {
	s.avoid(now)
	if s.replay == nil {
		s.drop(observe.DropRefused, 1)
	}
}

// avoid has nothing more sent to the endpoint.
func (s *session) avoid(now time.Duration) {
	s.reader.refusals.add(s.story.Route.To, now)
	s.noteRefused()
}

func (s *session) noteRefused() {
	if !s.refused {
		s.refused = true
		s.server.Refused(s.story.Route, unix.ECONNREFUSED)
	}
}

// refusedAtOnce tells whether an endpoint on this node has refused already what was
// sent just now.
func (s *session) refusedAtOnce() bool {
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err == nil && isUnreachable(unix.Errno(errno))
}

// resend offers the one datagram that a former session has sent to another
// endpoint; nil is none.
func (s *session) resend(datagram []byte, now time.Duration) {
	if datagram == nil {
		return
	}
	if s.story.Tried == nil || len(s.story.Tried) >= maxTries { // begun anew, or often enough
		s.drop(observe.DropRefused, 1)
		return
	}
	if _, err := unix.Write(s.fd, datagram); err != nil {
		s.drop(causeOf(err), 1)
		return
	}
	s.keepForReplay(datagram, 1)
	s.story.In, s.story.BytesIn = 1, int64(len(datagram))
	s.sent(now)
	s.active(now)
}
