package load

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// A stream is a connection with bytes both ways.
type stream struct {
	number   int
	up, down flow // to the endpoint, and to the client
	arrived  chan struct{}
	there    chan error // what was wrong at the endpoint's side, once that has ended
	client   *net.TCPConn
}

// A flow is one direction of a stream.
type flow struct {
	name   string
	seed   byte
	brief  bool // it ends long before the other one: the stream is half closed
	stalls bool // its reader stops for long times, and its sender sends all that he can

	sent, received digest
}

// digest is of the bytes that were written or read so far.
type digest struct {
	bytes int64
	sum   hash.Hash
}

func (d *digest) add(b []byte) {
	if d.sum == nil {
		d.sum = sha256.New()
	}
	d.sum.Write(b)
	d.bytes += int64(len(b))
}

func (d *digest) equals(other *digest) bool {
	return d.bytes == other.bytes && (d.bytes == 0 || string(d.sum.Sum(nil)) == string(other.sum.Sum(nil)))
}

const (
	chunk     = 16 << 10
	chunkTime = 10 * time.Millisecond // between two of a stream that is read all the time
	briefSize = 256 << 10
	stallTime = 3 * time.Second
	stallRead = 512 << 10 // between two stalls
)

// prepareStreams makes n streams, of which so many have a reader that stalls. Of either kind a
// quarter is half closed, by one side or the other.
func (l *Load) prepareStreams(of *Service, n, stalled int) {
	l.site.t.Helper()
	there := map[string]*stream{}
	for i := range n {
		s := &stream{number: i, arrived: make(chan struct{}), there: make(chan error, 1)}
		s.up = flow{name: "up", seed: byte(i)}
		s.down = flow{name: "down", seed: byte(i + 128)}
		if i < stalled {
			s.up.stalls, s.down.stalls = i%3 != 1, i%3 != 0
		}
		s.up.brief, s.down.brief = i%8 == 3, i%8 == 7
		l.streams = append(l.streams, s)
		there[strconv.Itoa(i)] = s
	}
	for _, pod := range of.Pods {
		serve(l.site.t, pod, of.Port, func(line string, from *bufio.Reader, c *net.TCPConn) {
			s := there[line]
			if s == nil { // somebody looks whether the Service is served
				answer(pod)(line, from, c)
				return
			}
			close(s.arrived)
			s.there <- l.transfer(&s.down, &s.up, from, c)
		})
	}
}

// beginStreams connects the clients of streams.
func (l *Load) beginStreams(of *Service) {
	l.site.t.Helper()
	for _, s := range l.streams {
		c, err := dial(l.client(s.number), of, s.number%2 == 1)
		if err == nil {
			_, err = fmt.Fprintln(c, s.number)
		}
		if err != nil {
			l.site.t.Fatalf("stream %d: %v", s.number, err)
		}
		<-s.arrived
		s.client = c
		l.work.Go(func() {
			err := errors.Join(l.transfer(&s.up, &s.down, c, c), <-s.there, s.up.arrived(), s.down.arrived())
			c.Close()
			if err != nil {
				l.Broken.note("stream %d: %v", s.number, err)
			}
		})
	}
}

// arrived says whether everything has.
func (f *flow) arrived() error {
	if f.sent.equals(&f.received) {
		return nil
	}
	return fmt.Errorf("%s: %d bytes were sent, and %d received, or others", f.name, f.sent.bytes, f.received.bytes)
}

// transfer sends one flow and receives the other one until both have ended.
func (l *Load) transfer(out, in *flow, from io.Reader, c *net.TCPConn) error {
	sent := make(chan error, 1)
	go func() {
		err := l.send(out, c)
		if err != nil {
			err = fmt.Errorf("%s: sent %d bytes: %w", out.name, out.sent.bytes, err)
		}
		sent <- err
	}()
	err := l.receive(in, from)
	if err != nil {
		err = fmt.Errorf("%s: received %d bytes: %w", in.name, in.received.bytes, err)
	}
	return errors.Join(err, <-sent)
}

func (l *Load) send(f *flow, to *net.TCPConn) error {
	random := rand.NewChaCha8([32]byte{f.seed})
	buf := make([]byte, chunk)
	for !l.ending() && !(f.brief && f.sent.bytes >= briefSize) {
		random.Read(buf)
		n, err := to.Write(buf)
		f.sent.add(buf[:n])
		if err != nil {
			return err
		}
		if !f.stalls {
			l.Pause(chunkTime)
		}
	}
	return to.CloseWrite()
}

func (l *Load) receive(f *flow, from io.Reader) error {
	buf := make([]byte, 4*chunk)
	last := time.Now()
	for awake := int64(0); ; {
		if f.stalls && f.received.bytes >= awake {
			l.Pause(stallTime)
			awake = f.received.bytes + stallRead
		}
		n, err := from.Read(buf)
		f.received.add(buf[:n])
		l.Moved.Add(int64(n))
		now := time.Now()
		if !f.stalls && !l.ending() && err == nil {
			l.gap.note(now.Sub(last))
		}
		last = now
		switch {
		case errors.Is(err, io.EOF):
			if !f.brief && !l.ending() {
				return io.ErrUnexpectedEOF
			}
			return nil
		case err != nil:
			return err
		}
	}
}
