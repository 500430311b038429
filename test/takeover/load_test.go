package takeover

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is what clients do all the time. Each of them knows what is to come back.
type load struct {
	t    *testing.T
	dial func(network string) (net.Conn, error)
	stop context.Context
	all  sync.WaitGroup

	bytes, statements, connections, datagrams, lost atomic.Int64
	slowest                                         atomic.Int64 // new connection, ns
	failed                                          atomic.Int64
}

const (
	bulkStreams  = 6
	stalled      = 4 // streams of which nobody reads the answer
	idle         = 20
	statement    = 50 * time.Millisecond
	connectEvery = 5 * time.Millisecond
	datagram     = 5 * time.Millisecond
	clientTime   = 20 * time.Second
)

// begin returns once every long connection is there; end checks everything.
func begin(t *testing.T, dial func(network string) (net.Conn, error)) (l *load, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l = &load{t: t, dial: dial, stop: ctx}
	for n := range bulkStreams + stalled + idle {
		conn, err := dial("tcp")
		if err != nil {
			t.Fatal(err)
		}
		run := l.idle
		switch {
		case n < bulkStreams:
			run = func(c net.Conn) error { return l.bulk(c, uint64(n), false) }
		case n < bulkStreams+stalled:
			run = func(c net.Conn) error { return l.bulk(c, uint64(n), true) }
		}
		l.all.Go(func() { l.note(fmt.Sprintf("connection %d", n), run(conn)) })
	}
	l.all.Go(l.connect)
	l.all.Go(func() { l.note("UDP", l.ask()) })
	end = sync.OnceFunc(func() {
		cancel()
		l.all.Wait()
		t.Logf("%d MB both ways by checksum, %d statements, %d new connections (the slowest in %v), %d datagrams of which %d were not answered",
			l.bytes.Load()>>20, l.statements.Load(), l.connections.Load(), time.Duration(l.slowest.Load()).Round(time.Millisecond/10),
			l.datagrams.Load(), l.lost.Load())
		if min(l.bytes.Load(), l.statements.Load(), l.connections.Load(), l.datagrams.Load()) == 0 {
			t.Error("a part of the load has done nothing")
		}
	})
	t.Cleanup(end)
	return l, end
}

func (l *load) note(who string, err error) {
	if err != nil {
		l.failed.Add(1)
		l.t.Errorf("%s: %v", who, err)
	}
}

// bulk sends random bytes to an echo server, as fast as they go but for a little pause, and
// compares what comes back: at once, or not before the end.
func (l *load) bulk(conn net.Conn, seed uint64, stalled bool) error {
	defer conn.Close()
	sent := make(chan int64, 1)
	go func() {
		var n int64
		source := rand.NewChaCha8(seeded(seed))
		chunk := make([]byte, 32<<10)
		for l.stop.Err() == nil {
			source.Read(chunk)
			if stalled {
				conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			}
			k, err := conn.Write(chunk)
			n += int64(k)
			if err != nil && stalled && errors.Is(err, os.ErrDeadlineExceeded) {
				<-l.stop.Done() // all that is on the way is full
			} else if err != nil {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		conn.(*net.TCPConn).CloseWrite()
		sent <- n
	}()
	if stalled {
		<-l.stop.Done()
	}
	expected := rand.NewChaCha8(seeded(seed))
	got, want := make([]byte, 32<<10), make([]byte, 32<<10)
	var n int64
	for {
		conn.SetReadDeadline(time.Now().Add(clientTime))
		k, err := conn.Read(got)
		expected.Read(want[:k])
		if !bytes.Equal(got[:k], want[:k]) {
			return fmt.Errorf("other bytes than were sent, after %d", n)
		}
		n += int64(k)
		l.bytes.Add(int64(k))
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
	}
	if all := <-sent; n != all {
		return fmt.Errorf("%d bytes of %d have come back", n, all)
	}
	return nil
}

func seeded(n uint64) (seed [32]byte) {
	binary.LittleEndian.PutUint64(seed[:], n)
	return seed
}

// idle asks for something now and then.
func (l *load) idle(conn net.Conn) error {
	defer conn.Close()
	for n := uint64(0); l.stop.Err() == nil; n++ {
		if err := roundTrip(conn, n); err != nil {
			return fmt.Errorf("statement %d: %w", n, err)
		}
		l.statements.Add(1)
		time.Sleep(statement)
	}
	return nil
}

func roundTrip(conn net.Conn, n uint64) error {
	conn.SetDeadline(time.Now().Add(clientTime))
	question := binary.LittleEndian.AppendUint64(nil, n)
	if _, err := conn.Write(question); err != nil {
		return err
	}
	answer := make([]byte, len(question))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if !bytes.Equal(question, answer) {
		return errors.New("another answer has come")
	}
	return nil
}

// connect makes connections, each for one statement.
func (l *load) connect() {
	for l.stop.Err() == nil {
		began := time.Now()
		conn, err := l.dial("tcp")
		if err == nil {
			err = roundTrip(conn, 1)
			conn.Close()
		}
		l.note("a new connection", err)
		l.connections.Add(1)
		l.slowest.Store(max(l.slowest.Load(), int64(time.Since(began))))
		time.Sleep(connectEvery)
	}
}

// ask sends datagrams from one socket, which are one session. The last of them have to be
// answered.
func (l *load) ask() error {
	conn, err := l.dial("udp")
	if err != nil {
		return err
	}
	defer conn.Close()
	var last atomic.Int64
	answered := make(chan error, 1)
	go func() {
		for b := make([]byte, 8); ; {
			if _, err := io.ReadFull(conn, b); err != nil {
				answered <- err
				return
			}
			last.Store(int64(binary.LittleEndian.Uint64(b)))
			l.lost.Add(-1)
		}
	}()
	for n := int64(1); l.stop.Err() == nil || last.Load() < n-10 && n < l.datagrams.Load()+1000; n++ {
		if _, err := conn.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))); err != nil {
			return err
		}
		l.datagrams.Add(1)
		l.lost.Add(1)
		time.Sleep(datagram)
		if l.stop.Err() != nil && last.Load() >= n-10 {
			break
		}
	}
	conn.SetReadDeadline(time.Now().Add(time.Second))
	if err := <-answered; !errors.Is(err, os.ErrDeadlineExceeded) {
		return cmp.Or(err, errors.New("no answer"))
	}
	return nil
}
