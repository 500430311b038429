package handover

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
	"sync"
	"time"
)

// A stream is a connection with bytes both ways.
type stream struct {
	number   int
	up, down flow // to the endpoint, and to the client
	arrived  chan struct{}
	there    sync.WaitGroup // the endpoint's side
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

// streams open n streams, of which so many have a reader that stalls. Of either kind a quarter
// is half closed, by one side or the other.
func (l *load) streams(of *service, n, stalled int) []*stream {
	l.site.t.Helper()
	all := make([]*stream, n)
	for i := range all {
		s := &stream{number: i, arrived: make(chan struct{})}
		s.up = flow{name: fmt.Sprintf("stream %d up", i), seed: byte(i)}
		s.down = flow{name: fmt.Sprintf("stream %d down", i), seed: byte(i + 128)}
		if i < stalled {
			s.up.stalls, s.down.stalls = i%3 != 1, i%3 != 0
		}
		s.up.brief, s.down.brief = i%8 == 3, i%8 == 7
		all[i] = s
	}
	there := map[string]*stream{}
	for _, s := range all {
		s.there.Add(1)
		there[strconv.Itoa(s.number)] = s
	}
	for _, pod := range of.Pods {
		serve(l.site.t, pod, of.Port, func(line string, from *bufio.Reader, c *net.TCPConn) {
			s := there[line]
			if s == nil { // somebody looks whether the Service is served
				answer(pod)(line, from, c)
				return
			}
			defer s.there.Done()
			close(s.arrived)
			l.transfer(&s.down, &s.up, from, c)
		})
	}
	return all
}

// begin connects the clients of streams.
func (l *load) begin(of *service, all []*stream) {
	l.site.t.Helper()
	for _, s := range all {
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
			l.transfer(&s.up, &s.down, c, c)
			s.there.Wait()
			c.Close()
			for _, f := range []*flow{&s.up, &s.down} {
				if !f.sent.equals(&f.received) {
					l.broken.note("%s: %d bytes were sent, and %d received, or others", f.name, f.sent.bytes, f.received.bytes)
				}
			}
		})
	}
}

// transfer sends one flow and receives the other one until both have ended.
func (l *load) transfer(out, in *flow, from io.Reader, c *net.TCPConn) {
	var sending sync.WaitGroup
	sending.Go(func() {
		if err := l.send(out, c); err != nil {
			l.broken.note("%s: sent %d bytes: %v", out.name, out.sent.bytes, err)
		}
	})
	if err := l.receive(in, from); err != nil {
		l.broken.note("%s: received %d bytes: %v", in.name, in.received.bytes, err)
	}
	sending.Wait()
}

func (l *load) send(f *flow, to *net.TCPConn) error {
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
			l.pause(chunkTime)
		}
	}
	return to.CloseWrite()
}

// pause returns early when the load ends.
func (l *load) pause(d time.Duration) {
	select {
	case <-l.over:
	case <-time.After(d):
	}
}

func (l *load) receive(f *flow, from io.Reader) error {
	buf := make([]byte, 4*chunk)
	last := time.Now()
	for awake := int64(0); ; {
		if f.stalls && f.received.bytes >= awake {
			l.pause(stallTime)
			awake = f.received.bytes + stallRead
		}
		n, err := from.Read(buf)
		f.received.add(buf[:n])
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
