package relay

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/usher-proxy/usher/proxier/tcp"
)

// Why a copy has ended before the source did.
var (
	errDrained = errors.New("nothing to read for now")
	errFull    = errors.New("no room to write for now")
	errLong    = errors.New("more than fits into a short burst")
	errStopped = errors.New("stopped")
)

const (
	bufferSize = 32 << 10
	// shortBurst is how many buffers a poller moves before it leaves the rest to a
	// goroutine of the flow's own.
	shortBurst = 2
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// ReadFrom is what io.Copy calls. Small amounts go through a buffer, for one connection
// after the other. Of a source that has had more than a short burst they go through a
// pipe (splice(2)), and never enter user space.
func (s *sink) ReadFrom(src io.Reader) (int64, error) {
	f := (*flow)(s)
	if f.bulk && !f.src.urgent.Load() {
		if n, err := f.splice(); err != errNoPipe {
			return n, err
		}
	}
	return f.copy(src)
}

// copy moves bytes through a buffer.
func (f *flow) copy(src io.Reader) (n int64, err error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for reads := 1; ; reads++ {
		got, readErr := src.Read(buf[:])
		if got > 0 {
			f.first()
			wrote, err := f.write(buf[:got])
			n += int64(wrote)
			if err != nil {
				return n, err
			}
		}
		switch {
		case readErr == tcp.ErrWait && !f.src.isDrained(): // once more
		case readErr == tcp.ErrWait:
			return n, errDrained
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return n, f.failed(f.src, readErr)
		case got < len(buf) && !f.src.ending.Load() && !f.src.urgent.Load():
			return n, errDrained // a stream socket gives all that it has (epoll(7))
		case f.stopped.Load():
			return n, errStopped
		case reads == shortBurst && !f.bulk:
			f.bulk = true
			return n, errLong
		}
	}
}

// write writes what was read. What there is no room for is kept.
func (f *flow) write(data []byte) (int, error) {
	n, err := f.dst.conn.Write(data)
	f.moved.Add(int64(n))
	switch {
	case err == tcp.ErrWait:
		f.left = &leftover{rest: slices.Clone(data[n:])}
		return n, errFull
	case err != nil:
		return n, f.failed(f.dst, err)
	}
	return n, nil
}

// flush writes what was kept.
func (f *flow) flush() error {
	left := f.left
	if left == nil {
		return nil
	}
	if left.pipe != nil {
		err := f.drain(left.pipe)
		if err == nil {
			left.pipe.put()
			f.left = nil
		}
		return err
	}
	f.left = nil
	_, err := f.write(left.rest)
	return err
}
