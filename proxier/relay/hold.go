package relay

import (
	"sync"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// HoldLimit is how many bytes of the client are held, to be sent again, until a
// backend answers.
const HoldLimit = 64 << 10

// hold is what the client has sent while no backend has answered yet. Relay.mu
// guards it.
type hold struct {
	data []byte // nil until the client's first byte
	sent int    // so many bytes of it were sent to the backend
	lost error  // sending failed, while the backend may still have answered
}

// unsent is what is still to be sent to the backend.
func (h *hold) unsent() []byte { return h.data[h.sent:] }

// fill takes what conn has, as far as there is room.
func (h *hold) fill(conn *tcp.Conn) error {
	if len(h.data) == cap(h.data) {
		h.data = grow(h.data)
	}
	n, err := conn.Read(h.data[len(h.data):cap(h.data)])
	if len(h.data)+n == 0 {
		h.free() // nothing came, and nothing needs a buffer
	} else {
		h.data = h.data[:len(h.data)+n]
	}
	return err
}

func (h *hold) full() bool { return len(h.data) == HoldLimit }

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
