package observe

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Sink is what a logger of records writes to, when that may fail: a disk may be full,
// nobody may read a pipe any more. Records that cannot be written are lost and counted.
// Their connections do not notice, and nor does logrus, which would write an error to
// stderr for each. It is safe for concurrent use if what it writes to is.
type Sink struct {
	name string
	to   io.Writer
	tell func(err error, lost uint64)
	lost atomic.Uint64

	mu     sync.Mutex
	told   time.Time
	untold uint64
}

// tellEvery is how often a Sink tells that it cannot write.
const tellEvery = time.Minute

// NewSink returns a Sink that writes to an io.Writer. The name is for metrics. tell, if it
// is not nil, is called at most once a minute with the error of a Write, and with how many
// lines were lost since it was called last.
func NewSink(name string, to io.Writer, tell func(err error, lost uint64)) *Sink {
	return &Sink{name: name, to: to, tell: tell}
}

// Write is that of io.Writer, without ever an error.
func (s *Sink) Write(b []byte) (int, error) {
	n, err := s.to.Write(b)
	if err != nil {
		lost := uint64(bytes.Count(b[min(max(n, 0), len(b)):], newline))
		s.lost.Add(lost)
		s.complain(err, lost)
	}
	return len(b), nil
}

func (s *Sink) complain(err error, lost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untold += lost
	if s.tell == nil || !s.told.IsZero() && time.Since(s.told) < tellEvery {
		return
	}
	s.tell(err, s.untold)
	s.told, s.untold = time.Now(), 0
}

var newline = []byte{'\n'}

// Lost counts the lines that could not be written.
func (s *Sink) Lost() uint64 { return s.lost.Load() }

// under is what a logger writes to in the end.
func under(out io.Writer) io.Writer {
	switch w := out.(type) {
	case *Sink:
		return w.to
	case *Writer:
		return w.to
	}
	return out
}
