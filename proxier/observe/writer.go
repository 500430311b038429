package observe

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"
)

// messagesQueued bounds the messages of a Writer that wait to be written.
const messagesQueued = 1024

// Writer is an io.Writer for messages, which makes nobody wait who writes one: when the
// reader of a log stops, everything else goes on. Messages for which there is no room are
// lost and counted. It is safe for concurrent use.
type Writer struct {
	to      io.Writer
	queue   chan []byte
	dropped atomic.Uint64
	flushes flushes
	closing chan struct{}
	ended   chan struct{}
}

// NewWriter returns a Writer to another io.Writer, which gets each message in one call.
// Close ends it.
func NewWriter(to io.Writer) *Writer {
	w := &Writer{to: to, queue: make(chan []byte, messagesQueued), flushes: make(flushes), closing: make(chan struct{}), ended: make(chan struct{})}
	go w.run()
	return w
}

// Write is that of io.Writer. It never fails.
func (w *Writer) Write(message []byte) (int, error) {
	select {
	case w.queue <- bytes.Clone(message):
	default:
		w.dropped.Add(1)
	}
	return len(message), nil
}

// Dropped counts the messages that were lost.
func (w *Writer) Dropped() uint64 { return w.dropped.Load() }

func (w *Writer) run() {
	defer close(w.ended)
	for {
		select {
		case message := <-w.queue:
			w.write(message)
			continue
		default:
		}
		select {
		case message := <-w.queue:
			w.write(message)
		case done := <-w.flushes:
			w.writeQueued()
			close(done)
		case <-w.closing:
			if len(w.queue) == 0 {
				return
			}
		}
	}
}

func (w *Writer) writeQueued() {
	for range len(w.queue) {
		w.write(<-w.queue)
	}
}

// Flush waits until everything that was written before has reached the other io.Writer, but
// not for longer than patience. It is not for after Close.
func (w *Writer) Flush(patience time.Duration) {
	w.flushes.wait(patience)
}

func (w *Writer) write(message []byte) {
	if _, err := w.to.Write(message); err != nil {
		w.dropped.Add(1)
	}
}

// Close writes what is queued, and waits for that as long as patience; who stands in the
// way of the last messages then keeps a goroutine. It is called once. What is written
// later is lost.
func (w *Writer) Close(patience time.Duration) {
	close(w.closing)
	select {
	case <-w.ended:
	case <-time.After(patience):
	}
}
