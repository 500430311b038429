package limit

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxWaiting is how many connections wait at one Gate.
const maxWaiting = 1000

// Gate admits the connections of one Service port. It needs no end. It is safe for
// concurrent use.
type Gate struct {
	whole     *Whole
	limits    atomic.Pointer[Limits] // written under the lock
	n         atomic.Int64           // admitted
	waiting   atomic.Int64           // for whatever; counted before they look for room a last time
	endpoints endpoints

	mu      sync.Mutex
	bucket  bucket
	clients map[netip.Addr]*client // those that are counted or wait
	queue   list.List              // of *waiter, first come first
	timer   *time.Timer            // for the next token
}

// client has the connections of one address.
type client struct {
	addr     netip.Addr
	admitted int
	users    int // admitted, or asking to be
}

// waiter is a connection in front of the Gate.
type waiter struct {
	client *client
	place  *list.Element // in the queue
	turn   chan struct{} // closed, under the lock, when it is admitted
}

// NewGate returns a Gate that shares the room of whole with others.
func NewGate(l Limits, whole *Whole) *Gate {
	g := &Gate{whole: whole}
	g.Set(l)
	return g
}

// Set changes the limits, at any time. Those admitted stay, and those waiting are
// judged anew; what they have left of their old Limits.Wait stays as it is.
func (g *Gate) Set(l Limits) {
	g.mu.Lock()
	now := time.Now()
	g.bucket.set(l.Rate, now)
	g.limits.Store(&l)
	g.judge(now, false)
	g.endpoints.set(l.PerEndpoint)
	g.mu.Unlock()
	g.whole.serve()
}

// Len is how many connections are admitted now.
func (g *Gate) Len() int { return int(g.n.Load()) }

// Waiting is how many wait now, for any limit.
func (g *Gate) Waiting() int { return int(g.waiting.Load()) }

// Endpoint admits a connection to an endpoint. The caller calls leave once when that
// is over. It is false if the endpoint has its Limits.PerEndpoint.
func (g *Gate) Endpoint(e netip.AddrPort) (leave func(), ok bool) { return g.endpoints.enter(e) }

// EndpointsChanged tells that there are other endpoints than before: those in
// Visit.WaitEndpoint choose anew.
func (g *Gate) EndpointsChanged() { g.endpoints.changed() }

// Enter admits a connection of a client, who has to Leave when it is over. The error
// is an *Exceeded, or if ctx is done while it waits, the cause of that.
func (g *Gate) Enter(ctx context.Context, client netip.Addr) (Visit, error) {
	return g.enter(ctx, client, g.limits.Load().Wait)
}

func (g *Gate) enter(ctx context.Context, client netip.Addr, wait time.Duration) (Visit, error) {
	if !g.limits.Load().bound() && g.whole.take() {
		g.n.Add(1)
		return Visit{gate: g, left: wait}, nil
	}
	g.whole.serve()
	v, w, err := g.ask(client.Unmap(), wait)
	g.whole.serve()
	if w == nil {
		return v, err
	}
	return g.wait(ctx, v, w)
}

// ask admits a connection that has to be counted, or puts it into the queue if it is
// to wait.
func (g *Gate) ask(addr netip.Addr, wait time.Duration) (Visit, *waiter, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.judge(now, false) // a token may have come for them a moment ago
	c := g.hold(addr)
	v := Visit{gate: g, client: c, left: wait}
	if g.obstacle(c, now) == "" && g.whole.take() {
		g.admit(c, now)
		return v, nil, nil
	}
	refused := g.hopeless(c, v.left, now)
	if refused == nil && v.begin() {
		w := &waiter{client: c, turn: make(chan struct{})}
		w.place = g.queue.PushBack(w)
		g.judge(now, false) // whoever makes room from now on knows of it
		return v, w, nil
	}
	if refused == nil {
		refused = g.exceeded(c, now)
	}
	g.drop(c)
	return Visit{}, nil, refused
}

// wait waits for the turn of a connection in the queue.
func (g *Gate) wait(ctx context.Context, v Visit, w *waiter) (Visit, error) {
	end := v.wait(ctx, w.turn)
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.turn:
		return v, nil
	default:
	}
	refused := g.exceeded(w.client, time.Now())
	refused.Waited = end.waited
	g.queue.Remove(w.place)
	g.drop(w.client)
	if end.cause != nil {
		return Visit{}, end.cause
	}
	return Visit{}, refused
}

// judge admits those that nothing keeps out any more, first come first served, one of
// them with a place in the process that is there if have. used tells that it was.
// Whoever calls it calls Whole.serve without the lock.
func (g *Gate) judge(now time.Time, have bool) (used bool) {
	for e := g.queue.Front(); e != nil; {
		w := e.Value.(*waiter)
		e = e.Next()
		switch g.obstacle(w.client, now) {
		case "":
			if have {
				have, used = false, true
			} else if !g.whole.take() {
				g.whole.line(g)
				return used
			}
			g.queue.Remove(w.place)
			g.admit(w.client, now)
			close(w.turn)
		case PerClient: // nobody else has to wait for that
		case ConnectionRate:
			g.wake(g.bucket.next(0, now))
			return used
		default:
			return used
		}
	}
	return used
}

// use admits one of those waiting with a place in the process that was taken for it,
// false if there is none.
func (g *Gate) use() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.judge(time.Now(), true)
}

// again judges those waiting after something has changed.
func (g *Gate) again() {
	g.mu.Lock()
	g.judge(time.Now(), false)
	g.mu.Unlock()
	g.whole.serve()
}

// wake judges those waiting after a time.
func (g *Gate) wake(after time.Duration) {
	if g.timer == nil {
		g.timer = time.AfterFunc(after, g.again)
	} else {
		g.timer.Reset(after)
	}
}

// obstacle is the limit of this Gate that keeps a client out, empty if none does.
func (g *Gate) obstacle(c *client, now time.Time) Kind {
	switch l := g.limits.Load(); {
	case l.PerClient > 0 && c.admitted >= l.PerClient:
		return PerClient
	case l.Connections > 0 && g.Len() >= l.Connections:
		return Connections
	case g.bucket.next(0, now) > 0:
		return ConnectionRate
	}
	return ""
}

// exceeded is the limit that keeps a client out.
func (g *Gate) exceeded(c *client, now time.Time) *Exceeded {
	if kind := g.obstacle(c, now); kind != "" {
		return g.limits.Load().exceeded(kind)
	}
	return &Exceeded{Limit: Process, Max: float64(g.whole.room().Connections)}
}

// hopeless refuses a connection that is not even to wait: too many of its client do,
// or those before it take all tokens that come meanwhile.
func (g *Gate) hopeless(c *client, wait time.Duration, now time.Time) *Exceeded {
	l := g.limits.Load()
	switch {
	case wait <= 0:
		return nil
	case g.bucket.interval > 0 && g.bucket.next(g.ahead(now), now) > wait:
		return l.exceeded(ConnectionRate)
	case l.PerClient > 0 && c.users-c.admitted > min(l.PerClient, maxWaiting/4):
		return l.exceeded(PerClient)
	}
	return nil
}

// ahead is how many of those waiting come before a newcomer.
func (g *Gate) ahead(now time.Time) (n int) {
	for e := g.queue.Front(); e != nil; e = e.Next() {
		if g.obstacle(e.Value.(*waiter).client, now) != PerClient {
			n++
		}
	}
	return n
}

func (g *Gate) admit(c *client, now time.Time) {
	g.n.Add(1)
	c.admitted++
	if g.bucket.interval > 0 {
		g.bucket.take(now)
	}
}

// hold is the client with this address, until it is dropped.
func (g *Gate) hold(addr netip.Addr) *client {
	c := g.clients[addr]
	if c == nil {
		c = &client{addr: addr}
		if g.clients == nil {
			g.clients = map[netip.Addr]*client{}
		}
		g.clients[addr] = c
	}
	c.users++
	return c
}

// drop forgets a client that has nothing left: a map keeps the memory of the most
// that it ever held.
func (g *Gate) drop(c *client) {
	if c.users--; c.users > 0 {
		return
	}
	if delete(g.clients, c.addr); len(g.clients) == 0 {
		g.clients = nil
	}
}
