package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// echo sends datagrams back to whoever sent them to a pod's port, by both families, until the
// test ends. The pod's name follows them, and whom it has them from: the session, as it sees it.
func echo(s *Site, pod *netns.Pod, port uint16) {
	for _, at := range []netip.AddrPort{pod.AddrPort4(port), pod.AddrPort6(port)} {
		c := pod.ListenUDP(at)
		c.SetReadBuffer(4 << 20)
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, 512)
			for {
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					c.WriteToUDPAddrPort(fmt.Appendf(buf[:n], "%s from %s", pod.Name, from), from)
				}
			}
		}()
		s.t.Cleanup(func() { c.Close(); <-done })
	}
}

// datagrams asks by so many sockets, each of which asks once in an interval and keeps its port.
// Each has to get one answer to each, all from the same endpoint and in the same session.
func (l *Load) datagrams(of *Service, sockets int, interval time.Duration) {
	l.site.t.Helper()
	for _, pod := range of.Pods {
		echo(l.site, pod, of.Port)
	}
	for i := range sockets {
		c, err := l.client(i).Dial("udp", of.Addr(i/2%2 == 1).String())
		if err != nil {
			l.site.t.Fatal(err)
		}
		q := &queries{load: l, name: fmt.Sprintf("%s, socket %d", of.Name, i), c: c, answers: map[uint32]int{}}
		l.work.Go(func() { q.ask(interval) })
	}
}

// queries are those of one socket.
type queries struct {
	load    *Load
	name    string
	c       net.Conn
	sent    uint32
	answers map[uint32]int // to each
	who     string
	open    atomic.Int64 // without an answer
	ended   atomic.Bool  // no more are sent
}

const (
	late  = 5 * time.Second        // what the last answer may take
	twice = 100 * time.Millisecond // within which a second answer would come
)

// enough stops listening when there is no answer to come.
func (q *queries) enough() {
	if q.ended.Load() && q.open.Load() == 0 {
		q.c.SetReadDeadline(time.Now().Add(twice))
	}
}

func (q *queries) ask(interval time.Duration) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		q.listen()
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !q.load.ending() {
		q.sent++
		q.open.Add(1)
		if _, err := q.c.Write(binary.BigEndian.AppendUint32(nil, q.sent)); err != nil {
			q.load.Lost.note("%s, query %d: %v", q.name, q.sent, err)
		}
		q.load.Asked.Add(1)
		select {
		case <-tick.C:
		case <-q.load.over:
		}
	}
	q.c.SetReadDeadline(time.Now().Add(late))
	q.ended.Store(true)
	q.enough()
	<-heard
	q.c.Close()
	for n := uint32(1); n <= q.sent; n++ {
		if q.answers[n] != 1 {
			q.load.Lost.note("%s: query %d of %d got %d answers", q.name, n, q.sent, q.answers[n])
		}
	}
}

func (q *queries) listen() {
	buf := make([]byte, 512)
	for {
		n, err := q.c.Read(buf)
		switch {
		case errors.Is(err, net.ErrClosed) || isTimeout(err):
			return
		case err != nil:
			q.load.Lost.note("%s: %v", q.name, err)
			continue
		case n <= 4:
			q.load.Lost.note("%s: an answer of %d bytes", q.name, n)
			continue
		}
		number, who := binary.BigEndian.Uint32(buf), string(buf[4:n])
		if q.answers[number]++; q.answers[number] == 1 {
			q.load.Replied.Add(1)
			q.open.Add(-1)
			q.enough()
		}
		if q.who == "" {
			q.who = who
		} else if q.who != who {
			q.load.Wrong.note("%s was with %s and is with %s", q.name, q.who, who)
			q.who = who
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
