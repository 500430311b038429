package proxier

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
)

// connections are all those being served. It is safe for concurrent use.
type connections struct {
	free     atomic.Int64 // files for connections, sessions and readers
	readers  atomic.Int64 // files of UDP sockets, beside one for each socket
	sessions func() int   // how many there are; each has one file
	most     int          // connections that there may be; 0: as many as the files allow

	leaving atomic.Pointer[departure] // nil: none is under way

	mu   sync.Mutex
	live map[*listener]map[*connection]struct{}
	n    int
	none chan struct{} // closed when the last one ends, while somebody waits
}

func newConnections(most int, sessions func() int) *connections {
	c := &connections{most: most, sessions: sessions, live: map[*listener]map[*connection]struct{}{}}
	c.makeRoom(0)
	return c
}

// makeRoom leaves files for so many listening sockets.
func (c *connections) makeRoom(sockets int) { c.free.Store(int64(limit.Free(sockets))) }

// files are those for connections and sessions.
func (c *connections) files() int { return int(c.free.Load() - c.readers.Load()) }

// room is how many connections there may be.
func (c *connections) room() limit.Room {
	room := limit.RoomIn(c.files() - c.sessions())
	if c.most > 0 {
		room.Connections = min(room.Connections, c.most)
	}
	return room
}

// add returns how many connections there are with this one.
func (c *connections) add(one *connection) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live[one.listener] == nil {
		c.live[one.listener] = map[*connection]struct{}{}
	}
	c.live[one.listener][one] = struct{}{}
	c.n++
	return c.n
}

func (c *connections) remove(one *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.live[one.listener]
	delete(of, one)
	if len(of) == 0 {
		delete(c.live, one.listener)
	}
	c.n--
	if c.n == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// of are the connections of a listener.
func (c *connections) of(l *listener) []*connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.live[l]))
}

// all are those of all listeners, in no particular order.
func (c *connections) all() []*connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*connection, 0, c.n)
	for _, of := range c.live {
		all = slices.AppendSeq(all, maps.Keys(of))
	}
	return all
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
	if c.n == 0 {
		close(none)
	} else {
		c.none = none
	}
	return none
}

// abort ends all of them. Those that wait come first, or else they would get the places that
// others leave.
func (c *connections) abort(reason observe.Reason) int {
	all := c.all()
	var connected []*connection
	for _, one := range all { // which removes itself
		if one.endpoint().IsValid() {
			connected = append(connected, one)
		} else {
			one.abort(reason)
		}
	}
	for _, one := range connected {
		one.abort(reason)
	}
	return len(all)
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}
