package relay

import (
	"net"
	"sync"
)

// HoldLimit is how many bytes of the client are held, to be sent again, until a
// backend answers.
const HoldLimit = 64 << 10

// hold is what the client has sent while no backend has answered yet. Relay.mu
// guards it.
type hold struct {
	data  []byte // nil until the client's first byte, and when it was let go
	sent  int    // so many bytes of it were sent to the backend
	inUse bool   // data is being sent
	over  bool   // nothing more is held: data goes as soon as it is sent
	lost  error  // sending failed, while the backend may still have answered
}

// unsent is what is still to be sent to the backend.
func (h *hold) unsent() []byte {
	if h.data == nil {
		return nil
	}
	return h.data[h.sent:]
}

// fill takes what conn has, of which a byte is known to be there: it never
// waits. If it fails, whoever awaits the next byte learns why.
func (h *hold) fill(conn *net.TCPConn) {
	if len(h.data) == cap(h.data) {
		h.data = grow(h.data)
	}
	n, _ := conn.Read(h.data[len(h.data):cap(h.data)])
	h.data = h.data[:len(h.data)+n]
}

func (h *hold) full() bool { return len(h.data) == HoldLimit }

// letGo ends the holding. What was not sent yet is kept until it is.
func (h *hold) letGo() {
	h.over = true
	if !h.inUse && len(h.unsent()) == 0 {
		h.free()
	}
}

func (h *hold) free() {
	recycle(h.data)
	h.data = nil
}

// Most requests are small, and many of them may wait for an answer at once.
const smallHold = 4 << 10

var (
	smallHolds = sync.Pool{New: func() any { return new([smallHold]byte) }}
	largeHolds = sync.Pool{New: func() any { return new([HoldLimit]byte) }}
)

// grow returns a larger buffer with the same data.
func grow(data []byte) []byte {
	if data == nil {
		return smallHolds.Get().(*[smallHold]byte)[:0]
	}
	larger := append(largeHolds.Get().(*[HoldLimit]byte)[:0], data...)
	recycle(data)
	return larger
}

func recycle(data []byte) {
	switch cap(data) {
	case smallHold:
		smallHolds.Put((*[smallHold]byte)(data[:smallHold]))
	case HoldLimit:
		largeHolds.Put((*[HoldLimit]byte)(data[:HoldLimit]))
	}
}
