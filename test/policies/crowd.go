package policies

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A crowd are clients with an address of their own each. It writes down what they get.
type crowd struct {
	last atomic.Uint32 // of the clients' addresses

	mu         sync.Mutex
	firstBytes []time.Duration // since before the connect
	failures   []error
}

// inTurns has so many clients at a time ask one question after the other until ctx is done, and
// at least so many have asked.
func (c *crowd) inTurns(ctx context.Context, clients, atLeast int) {
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for ctx.Err() == nil || c.last.Load() < uint32(atLeast) {
				c.ask()
			}
		})
	}
	all.Wait()
}

// steadily has so many new clients a second ask, however long others wait, until ctx is done.
func (c *crowd) steadily(ctx context.Context, perSecond int) {
	var all sync.WaitGroup
	defer all.Wait()
	start := time.Now()
	for n := range 1 << 30 {
		next := time.NewTimer(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
		select {
		case <-next.C:
			all.Go(c.ask)
		case <-ctx.Done():
			next.Stop()
			return
		}
	}
}

// ask is a client that nobody was before.
func (c *crowd) ask() {
	n := c.last.Add(1)
	took, err := ask(netip.AddrFrom4([4]byte{127, 16 + byte(n>>16)%16, byte(n >> 8), byte(n)}))
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failures = append(c.failures, err)
		return
	}
	c.firstBytes = append(c.firstBytes, took)
}

// ask asks the Service from an address, and returns how long the first byte of the answer took.
func ask(from netip.Addr) (time.Duration, error) {
	start := time.Now()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	c, err := d.Dial("tcp", vip.String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(start.Add(patience))
	if _, err := io.WriteString(c, question); err != nil {
		return 0, err
	}
	got := make([]byte, len(reply)+1)
	n, err := c.Read(got)
	took := time.Since(start)
	for err == nil {
		var more int
		more, err = c.Read(got[n:])
		n += more
	}
	if err != io.EOF || string(got[:n]) != reply {
		return took, fmt.Errorf("%d bytes of answer from %s after %s: %w", n, vip, took, err)
	}
	return took, nil
}
