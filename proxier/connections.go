package proxier

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// connections are all those being served. It is safe for concurrent use.
type connections struct {
	free     atomic.Int64 // files for connections and sessions
	sessions func() int   // how many there are; each has one file

	mu   sync.Mutex
	live map[*connection]struct{}
	none chan struct{} // closed when the last one ends, while somebody waits
}

func newConnections(sessions func() int) *connections {
	c := &connections{sessions: sessions, live: map[*connection]struct{}{}}
	c.makeRoom(0)
	return c
}

// makeRoom leaves files for so many listening sockets.
func (c *connections) makeRoom(sockets int) { c.free.Store(int64(freeFiles(sockets))) }

// limit is how many connections there may be.
func (c *connections) limit() int { return connectionLimit(int(c.free.Load()) - c.sessions()) }

const (
	filesPerConnection = 6   // two sockets and, while it splices, two pipes
	filesPerListener   = 2   // its socket, and a duplicate to accept from
	filesReserved      = 256 // for the API server, iptables, health and metrics
)

// freeFiles is how many files are left beside so many listening sockets.
func freeFiles(sockets int) int { return fileLimit() - filesReserved - sockets*filesPerListener }

// connectionLimit is how many connections so many files allow.
func connectionLimit(files int) int { return max(files/filesPerConnection, 16) }

// fileLimit is how many files this process may have open.
func fileLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = 1024
	}
	return int(min(limit.Cur, 1<<30))
}

// add returns how many connections there are with this one.
func (c *connections) add(one *connection) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[one] = struct{}{}
	return len(c.live)
}

func (c *connections) remove(one *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, one)
	if len(c.live) == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// drain waits until no connection is left, or ctx is done; those left then are
// aborted. Nothing may be added any more.
func (c *connections) drain(ctx context.Context) (aborted int) {
	none := c.empty()
	select {
	case <-none:
		return 0
	case <-ctx.Done():
	}
	aborted = c.abort(observe.Shutdown)
	<-none
	return aborted
}

func (c *connections) empty() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	none := make(chan struct{})
	if len(c.live) == 0 {
		close(none)
	} else {
		c.none = none
	}
	return none
}

func (c *connections) abort(reason observe.Reason) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for one := range c.live {
		one.abort(reason)
	}
	return len(c.live)
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.live)
}
