package scale

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

const (
	askTimeout = time.Second // for a connection, and for its answer

	// Who looks whether something is served yet does so with pauses, and does not wait long for
	// a connection: kube-proxy drops what is for an address that no Service has. A connection
	// that is accepted is waited for.
	lookPause   = 2 * time.Millisecond
	lookTimeout = 20 * time.Millisecond
)

// serveBackends answers at every address of backends: each connection with the address that it
// has reached, and then its end.
func serveBackends(ns *netns.NS) {
	l := ns.Listen("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), backendPort))
	for range 2 {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return // the test has ended
				}
				io.WriteString(conn, conn.LocalAddr().(*net.TCPAddr).IP.String())
				conn.Close()
			}
		}()
	}
}

// ask connects and returns the address of the endpoint that has answered. It has to run inside
// the namespace of the client.
func ask(addr netip.AddrPort) (netip.Addr, error) { return askWithin(askTimeout, addr) }

// askWithin is ask with another timeout for the connection.
func askWithin(timeout time.Duration, addr netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialTimeout("tcp", addr.String(), timeout)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(askTimeout))
	answer, err := io.ReadAll(conn)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(string(answer))
}

// awaitAnswer asks until an answer is as wanted and returns when that was.
func awaitAnswer(client *netns.NS, addr netip.AddrPort, patience time.Duration, wanted func(netip.Addr) bool) (at time.Time, err error) {
	deadline := time.Now().Add(patience)
	client.Do(func() {
		for {
			var from netip.Addr
			if from, err = askWithin(lookTimeout, addr); err == nil && wanted(from) {
				at = time.Now()
				return
			}
			if time.Now().After(deadline) {
				err = fmt.Errorf("%s has not answered as it should within %s; the last answer was from %s, the last error is %v", addr, patience, from, err)
				return
			}
			time.Sleep(lookPause)
		}
	})
	return at, err
}

func anyAnswer(netip.Addr) bool { return true }

// askEach asks at the VIP of each Service once and returns how many have answered with an
// endpoint of their own.
func askEach(client *netns.NS, services int) (answered int) {
	var mu sync.Mutex
	numbers := make(chan number)
	inside(client, 8, func() {
		for n := range numbers {
			from, err := ask(n.vip())
			own := err == nil && !from.Less(n.endpoint(0, 0)) && from.Less((n+1).endpoint(0, 0))
			own = own || err == nil && !from.Less(n.endpoint(0, 1)) && from.Less((n+1).endpoint(0, 1))
			if own {
				mu.Lock()
				answered++
				mu.Unlock()
			}
		}
	}, func() {
		for n := range services {
			numbers <- number(n)
		}
		close(numbers)
	})
	return answered
}

// inside runs f on some threads of a namespace, and drive meanwhile, which has to make all of
// them return.
func inside(ns *netns.NS, threads int, f, drive func()) {
	var all sync.WaitGroup
	for range threads {
		all.Go(func() { ns.Do(f) })
	}
	drive()
	all.Wait()
}

// A tally is what became of connections.
type tally struct {
	mu       sync.Mutex
	took     []time.Duration // of those that were answered
	failures []error
}

func (t *tally) add(took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failures = append(t.failures, err)
		return
	}
	t.took = append(t.took, took)
}

// askAsFastAsAnswered keeps some clients busy for a time and returns the answers a second.
func askAsFastAsAnswered(client *netns.NS, addr netip.AddrPort, during time.Duration) (perSecond float64, failures []error) {
	var t tally
	start := time.Now()
	inside(client, 8, func() {
		for time.Since(start) < during {
			_, err := ask(addr)
			t.add(0, err)
		}
	}, func() {})
	return float64(len(t.took)) / time.Since(start).Seconds(), t.failures
}

// askSteadily begins so many connections a second, however long the answers take. A connection
// takes from when it is due.
func askSteadily(client *netns.NS, addr netip.AddrPort, perSecond int, during time.Duration) *tally {
	var t tally
	due := make(chan time.Time, perSecond)
	inside(client, 16, func() {
		for at := range due {
			_, err := ask(addr)
			t.add(time.Since(at), err)
		}
	}, func() {
		steadily(perSecond, during, func(_ int, at time.Time) { due <- at })
		close(due)
	})
	return &t
}

// steadily calls f so many times a second, in order, with when each call is due.
func steadily(perSecond int, during time.Duration, f func(i int, at time.Time)) {
	start := time.Now()
	n := int(during.Seconds() * float64(perSecond))
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(at))
		f(i, at)
	}
}

// awaitNobody waits until nobody answers at an address any more.
func awaitNobody(client *netns.NS, addr netip.AddrPort, patience time.Duration) (err error) {
	deadline := time.Now().Add(patience)
	client.Do(func() {
		for {
			from, failed := ask(addr)
			if failed != nil {
				return
			}
			if time.Now().After(deadline) {
				err = fmt.Errorf("%s is still answered after %s, by %s", addr, patience, from)
				return
			}
			time.Sleep(lookPause)
		}
	})
	return err
}
