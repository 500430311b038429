package proxier

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// dataPath is what all connections share.
type dataPath struct {
	log          logrus.FieldLogger
	observer     *observe.Observer
	capture      capture
	balancerName string
	dialer       dialer
	halfClose    time.Duration
	connections  *connections
	acceptErrors *occasionally
}

// connections are all those being served. It is safe for concurrent use.
type connections struct {
	limit int

	mu   sync.Mutex
	live map[*connection]struct{}
	none chan struct{} // closed when the last one ends, while somebody waits
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, live: map[*connection]struct{}{}}
}

// A relayed connection has two sockets and, while it splices, two pipes.
const (
	filesPerConnection = 6
	filesReserved      = 256 // for listeners, the API server, iptables
)

// connectionLimit is how many connections the limit of open files allows.
func connectionLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 / filesPerConnection
	}
	files := int(min(limit.Cur, 1<<30))
	return max((files-filesReserved)/filesPerConnection, 16)
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

// occasionally says yes once per interval, to keep a log readable.
type occasionally struct {
	interval time.Duration
	mu       sync.Mutex
	last     time.Time
}

func (o *occasionally) allow(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.last) < o.interval {
		return false
	}
	o.last = now
	return true
}
