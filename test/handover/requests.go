package handover

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// client is the n-th, of all that there are.
func (l *load) client(n int) *netns.NS { return l.site.clients[n%len(l.site.clients)] }

// requests ask a Service so often a second, each on a connection of its own. Who answers is
// told to by, and what time it took.
func (l *load) requests(of *service, rate int, by func(n int, who string, took time.Duration)) {
	l.every(time.Second/time.Duration(rate), func(n int) {
		began := time.Now()
		who, err := request(l.client(n), of, n/2%2 == 1, strconv.Itoa(n))
		if err != nil {
			l.failed.note("%s, request %d, after %v: %v", of.Name, n, time.Since(began).Round(time.Millisecond), err)
			return
		}
		l.answered.Add(1)
		by(n, who, time.Since(began))
	})
}

// not complains when one answers who should not.
func (l *load) not(of *service, unwanted *netns.Pod) func(int, string, time.Duration) {
	return func(n int, who string, _ time.Duration) {
		if who == unwanted.Name {
			l.wrong.note("%s: request %d got to %s", of.Name, n, who)
		}
	}
}

// sticky asks a Service with session affinity by each client and family. Each has to stay with
// the endpoint that it was answered by first.
func (l *load) sticky(of *service, interval time.Duration) {
	for i := range 2 * len(l.site.clients) {
		var first atomic.Value
		l.every(interval, func(n int) {
			who, err := request(l.client(i/2), of, i%2 == 1, strconv.Itoa(n))
			if err != nil {
				l.failed.note("%s, request %d: %v", of.Name, n, err)
			} else if !first.CompareAndSwap(nil, who) && first.Load() != who {
				l.wrong.note("%s: client %d was with %s and is with %s", of.Name, i, first.Load(), who)
			}
		})
	}
}

// waits asks a Service with a limit, by so many clients at a time that wait for their turn. No
// more than the limit may be at the endpoint together.
func (l *load) waits(of *service, clients, limit int, holds time.Duration) {
	var together atomic.Int64
	for _, pod := range of.Pods {
		serve(l.site.t, pod, of.Port, func(line string, from *bufio.Reader, c *net.TCPConn) {
			if n := together.Add(1); n > int64(limit) {
				l.wrong.note("%s: %d connections together, the limit is %d", of.Name, n, limit)
			}
			time.Sleep(holds) // as work does
			together.Add(-1)
			answer(pod)(line, from, c)
		})
	}
	for i := range clients {
		l.work.Go(func() {
			for n := i; !l.ending(); n += clients {
				if _, err := request(l.client(i), of, false, strconv.Itoa(n)); err != nil {
					l.failed.note("%s, client %d: %v", of.Name, i, err)
				}
			}
		})
	}
}

// statement is a connection with a statement now and then.
type statement struct {
	c    *net.TCPConn
	in   int64 // bytes
	out  int64
	said *bufio.Reader
}

// statements opens connections with one statement in an interval on each, and returns them.
// Each has to stay with its server, which counts.
func (l *load) statements(of *service, n int, interval time.Duration) (all []*statement) {
	l.site.t.Helper()
	for i := range n {
		c, err := dial(l.client(i), of, i/2%2 == 1)
		if err != nil {
			l.site.t.Fatalf("%s, connection %d: %v", of.Name, i, err)
		}
		s := &statement{c: c, said: bufio.NewReader(c)}
		all = append(all, s)
		l.work.Go(func() {
			l.pause(interval * time.Duration(i) / time.Duration(n))
			for turn := 1; !l.ending(); turn++ {
				if err := s.ask(turn); err != nil {
					l.broken.note("%s, connection %d, statement %d: %v", of.Name, i, turn, err)
					break
				}
				l.pause(interval)
			}
			c.Close()
		})
	}
	return all
}

func (s *statement) ask(turn int) error {
	n, err := fmt.Fprintf(s.c, "select %d\n", turn)
	if err != nil {
		return err
	}
	s.in += int64(n)
	line, err := s.said.ReadString('\n')
	s.out += int64(len(line))
	if want := fmt.Sprintf("row %d of select %d\n", turn, turn); err == nil && line != want {
		err = fmt.Errorf("the answer is %q, want %q", line, want)
	}
	return err
}

// databaseServer answers statements until the client leaves.
func databaseServer(line string, from *bufio.Reader, c *net.TCPConn) {
	for turn := 1; ; turn++ {
		if _, err := fmt.Fprintf(c, "row %d of %s\n", turn, line); err != nil {
			return
		}
		next, err := from.ReadString('\n')
		if err != nil {
			return
		}
		line = next[:len(next)-1]
	}
}
