package load

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// client is the n-th, of all that there are.
func (l *Load) client(n int) *netns.NS { return l.site.Clients[n%len(l.site.Clients)] }

// request asks on a connection of its own, and returns who has answered, or "".
func (l *Load) request(from *netns.NS, of *Service, six bool, n int) (who string) {
	began := time.Now()
	who, err := request(from, of, six, strconv.Itoa(n))
	switch {
	case err == nil && of.shuns != nil && who == of.shuns.Name:
		l.Wrong.note("%s: request %d got to %s", of.Name, n, who)
	case err == nil:
	case l.wasServed(began) && !errors.Is(err, syscall.ECONNREFUSED):
		l.Broken.note("%s, request %d, begun when usher was killed: %v", of.Name, n, err)
	default:
		l.Failed.note("%s, request %d, after %v: %v", of.Name, n, time.Since(began).Round(time.Millisecond), err)
	}
	return who
}

// Kill calls kill, which ends usher at once. The requests that it is serving end with it: they are
// established connections, not new ones.
func (l *Load) Kill(kill func()) {
	l.servedUntil(lifetime)
	kill()
	l.servedUntil(dying)
}

// dying is how long a process may accept after it was sent SIGKILL.
const dying = 50 * time.Millisecond

func (l *Load) servedUntil(after time.Duration) {
	at := time.Now().Add(after)
	l.killed.Store(&at)
}

// wasServed says whether a usher that was killed may have accepted what began at a time.
func (l *Load) wasServed(began time.Time) bool {
	at := l.killed.Load()
	return at != nil && began.Before(*at)
}

// requests ask a Service so often a second. The longest delay of an answer is noted.
func (l *Load) requests(of *Service, rate int, delay *longest) {
	l.every(time.Second/time.Duration(rate), func(n int) {
		began := time.Now()
		if l.request(l.client(n), of, n/2%2 == 1, n) != "" {
			l.Answered.Add(1)
			delay.note(time.Since(began))
		}
	})
}

// sticksTo asks a Service with session affinity by each client and family. Each has to stay with
// the endpoint that it was answered by first.
func (l *Load) sticksTo(of *Service, interval time.Duration) {
	for i := range 2 * len(l.site.Clients) {
		var first atomic.Value
		l.every(interval, func(n int) {
			who := l.request(l.client(i/2), of, i%2 == 1, n)
			if who != "" && !first.CompareAndSwap(nil, who) && first.Load() != who {
				l.Wrong.note("%s: client %d was with %s and is with %s", of.Name, i, first.Load(), who)
			}
		})
	}
}

// waits asks a Service with a limit, by so many clients at a time that wait for their turn. No
// more than the limit may be at the endpoint together.
func (l *Load) waits(of *Service, clients, limit int, holds time.Duration) {
	var together atomic.Int64
	for _, pod := range of.Pods {
		serve(l.site.t, pod, of.Port, func(line string, from *bufio.Reader, c *net.TCPConn) {
			if n := together.Add(1); n > int64(limit) {
				l.Wrong.note("%s: %d connections together, the limit is %d", of.Name, n, limit)
			}
			time.Sleep(holds) // as work does
			together.Add(-1)
			answer(pod)(line, from, c)
		})
	}
	for i := range clients {
		l.work.Go(func() {
			for n := i; !l.ending(); n += clients {
				l.request(l.client(i), of, false, n)
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

// Statements opens n connections with one statement in an interval on each. Each has to stay
// with its server, which counts.
func (l *Load) Statements(of *Service, n int, interval time.Duration) {
	l.site.t.Helper()
	for i := range n {
		c, err := dial(l.client(i), of, i/2%2 == 1)
		if err != nil {
			l.site.t.Fatalf("%s, connection %d: %v", of.Name, i, err)
		}
		s := &statement{c: c, said: bufio.NewReader(c)}
		l.statements = append(l.statements, s)
		l.work.Go(func() {
			l.Pause(interval * time.Duration(i) / time.Duration(n))
			for turn := 1; !l.ending(); turn++ {
				if err := s.ask(turn); err != nil {
					l.Broken.note("%s, connection %d, statement %d: %v", of.Name, i, turn, err)
					break
				}
				l.Pause(interval)
			}
			c.Close()
		})
	}
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
