package proxier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// departure is the time in which connections are made ready to go on in another process.
// Each of them arrives once: with both its sockets at rest, or with its client's alone if it
// was looking for an endpoint, or at its end. Nothing is accepted meanwhile.
type departure struct {
	mu      sync.Mutex
	pending map[*connection]bool  // true: somebody sees to it
	refused map[*connection]error // why a relay was not released when that was tried last
	ready   []*departed
	all     chan struct{} // closed when none is pending
}

// departed is a connection that rests.
type departed struct {
	*connection
	client, backend *tcp.Conn    // backend is nil if it looks for an endpoint
	state           *relay.State // nil if it was never relayed
}

// errDeparts is why a search for an endpoint has ended that goes on in another process.
var errDeparts = errors.New("the connection is handed over to another process")

// depart begins the departure of all connections. From now on they see to it themselves where
// they would wait; those that are relayed have to be gathered. stay ends it.
func (c *connections) depart() (d *departure, all []*connection) {
	d = &departure{pending: map[*connection]bool{}, refused: map[*connection]error{}, all: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.leaving.Store(d) // first: one that ends now is in the list and tells, or it is not in the list
	all = c.all()
	for _, one := range all {
		d.pending[one] = false
	}
	return d, all
}

// wait waits until all have arrived.
func (d *departure) wait(ctx context.Context) error {
	d.arrived(nil, nil)
	again := time.NewTicker(departLook)
	defer again.Stop()
	for {
		select {
		case <-d.all:
			return nil
		case <-again.C:
			d.gather(d.left())
		case <-ctx.Done():
			return d.late()
		}
	}
}

// late tells of those that have not come to rest, nil if all have.
func (d *departure) late() error {
	list := d.left()
	if len(list) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	one, why := list[0], "it looks for an endpoint"
	if d.pending[one] {
		why = "its bytes do not stop"
	} else if err := d.refused[one]; err != nil {
		why = err.Error()
	}
	return fmt.Errorf("%d connections have not come to rest, %s of %s among them: %s", len(list), one.record.ID(), one.key, why)
}

// arrivals are those that rest by now.
func (d *departure) arrivals() []*departed {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ready)
}

// departLook is between two looks for relays that could not be released at first: their
// endpoint had failed a write, but it may have answered all the same.
const departLook = 10 * time.Millisecond

// gather has those come to rest that can.
func (d *departure) gather(list []*connection) {
	var relayed []*connection
	for _, one := range list {
		one.mu.Lock()
		there, phase := one.there, one.phase
		one.mu.Unlock()
		switch {
		case there && d.takes(one):
			relayed = append(relayed, one)
		case phase != nil:
			phase.depart()
		}
	}
	inParallel(runtime.GOMAXPROCS(0), relayed, func(some []*connection) { d.release(some...) })
}

// left are those that have not come to rest.
func (d *departure) left() []*connection {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.pending))
}

// departs is the departure that is under way, nil if none is.
func (c *connection) departs() *departure { return c.connections.leaving.Load() }

// release has relays come to rest that were taken. One that is about to end does that
// instead, and one whose endpoint has just failed it arrives by its search for another one.
func (d *departure) release(list ...*connection) {
	relays := make([]*relay.Relay, len(list))
	for i, c := range list {
		relays[i] = c.relay
	}
	for i, r := range relay.ReleaseAll(relays) {
		if r.Err != nil {
			d.leaves(list[i], r.Err)
			continue
		}
		d.arrived(list[i], &departed{list[i], r.Client, r.Backend, &r.State})
	}
}

// takes says whether nobody sees to a connection yet, and that the caller does from now on.
func (d *departure) takes(c *connection) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken, pending := d.pending[c]
	if !pending || taken {
		return false
	}
	d.pending[c] = true
	return true
}

// leaves leaves a connection to itself, as its relay was not released.
func (d *departure) leaves(c *connection, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending[c] {
		d.pending[c], d.refused[c] = false, why
	}
}

// arrived is called with a connection that rests, or that has ended. What comes too late is
// sent back.
func (d *departure) arrived(c *connection, rests *departed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending == nil {
		if rests != nil {
			go rests.stay()
		}
		return
	}
	delete(d.pending, c)
	if rests != nil {
		d.ready = append(d.ready, rests)
	}
	if len(d.pending) == 0 {
		d.pending = nil
		close(d.all)
	}
}

// stay has everything go on in this process.
func (c *connections) stay(d *departure) {
	c.leaving.Store(nil)
	d.mu.Lock()
	d.pending = nil
	d.mu.Unlock()
	for _, one := range d.ready {
		one.stay()
	}
}

// stay has a connection go on where it was.
func (d *departed) stay() {
	if d.backend == nil {
		go d.searchOn(d.state)
		return
	}
	d.resume(d.client, d.backend, *d.state)
}

// resume goes on with both sides.
func (c *connection) resume(client, backend *tcp.Conn, s relay.State) {
	r, err := relay.Resume(client, backend, s, relay.Settings{Limits: &c.settings.Relay, Clock: c.clock}, c)
	if err != nil { // it is not what Release makes
		c.Panicked(err)
		backend.Reset()
		c.refuse("internal_error", err)
		return
	}
	c.connected(r)
	r.Start()
	c.started()
}

// searchOn finds an endpoint for a connection that has none, with what its client has sent
// if that was relayed before.
func (c *connection) searchOn(held *relay.State) {
	found, err := c.find()
	switch {
	case errors.Is(err, errDeparts):
		c.rests(held)
	case err != nil:
	case held == nil:
		c.run(found)
	default:
		c.take(found)
		c.resume(c.client, found.Conn, *held)
	}
}

// rests is called when the search has ended for a departure.
func (c *connection) rests(held *relay.State) {
	c.client.Unwatch()
	rests := &departed{connection: c, client: c.client, state: held}
	if d := c.departs(); d != nil {
		d.arrived(c, rests)
	} else { // it did not take place
		rests.stay()
	}
}

// restsEarly is rests for a connection that was to get another endpoint. It returns false
// if it is about to end.
func (c *connection) restsEarly() bool {
	_, held, err := c.relay.ReleaseClient()
	if err != nil {
		return false
	}
	c.mu.Lock()
	c.relay = nil
	c.mu.Unlock()
	c.rests(&held)
	return true
}

// started is called when bytes begin to move, which may be just when they should not.
func (c *connection) started() {
	if d := c.departs(); d != nil && d.takes(c) {
		go d.release(c)
	}
}
