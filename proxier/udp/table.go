package udp

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound the sessions of one Service port. UDP has no end of a session
// and any source address can be forged: only these limits end one that nobody
// ended, and keep strangers from taking all the room.
type Limits struct {
	// Sessions is how many there may be at once, at least 1: less counts as 1.
	// One client prefix, a /24 or a /64, may have half of them, at least 1.
	Sessions int
	// Idle is how long a session lives after its last datagram while no
	// answer came, and one that its client has left for another. It is
	// netfilter's nf_conntrack_udp_timeout. One of 0 or less has always passed.
	Idle time.Duration
	// Stream is the same for a session that was answered, as
	// nf_conntrack_udp_timeout_stream is.
	Stream time.Duration
}

// Table has the sessions of all Service ports, in the order in which they are
// to go: it says which session ends because its time is over, and which one to
// make room for another. It only counts and tells: whoever gets entries from
// add, remove or expired ends their sessions. Each entry added is handed out
// exactly once, by one of these three.
//
// What was used is known to a second: an entry is moved to the recent end of
// the order when it is used a second or more after it was last moved, so that a
// datagram as a rule takes no lock. Timeouts are exact nevertheless.
//
// Times are those of now. It is safe for concurrent use, with one lock for all.
// It takes about 350 bytes per session, and 400 to 1000 for each client prefix.
type Table struct {
	start time.Time // times are relative to it: only the monotonic clock counts
	limit func() int

	mu     sync.Mutex
	order  recency
	mixed  bool                // entries came in that were used before others
	groups map[*Group]struct{} // those with sessions
}

// Group has the sessions of one Service port in a Table. One that is not needed
// any more may be forgotten when it has none. It is safe for concurrent use.
type Group struct {
	table *Table

	// The lock is that of the table.
	limits Limits
	// due are those whose place is so old that they are about to expire,
	// except that they were used within the second after they were placed;
	// order are all others. Each of due was placed before all of order in its
	// class.
	due, order recency
	clients    map[netip.Prefix]*recency // those with sessions
}

// entry is a session's place in a Table. The zero value is in none.
//
// The goroutine that owns the session is the only one to add, touch and move
// it; it may read class at any time, others not at all. Any goroutine may read
// used, remove it, or get it from add or expired.
type entry struct {
	session *session

	used   atomic.Int64 // Table.now at the last datagram or move
	placed atomic.Int64 // when it was last moved to the recent end; at most used

	// Written under the lock of the table.
	class  class
	group  *Group // nil if it is in no table
	client netip.Prefix
}

// replaceAfter is how long an entry may be used before its place in the order
// tells so.
const replaceAfter = time.Second

// newTable returns an empty table. limit is how many sessions there may be in
// all, at least 1: less counts as 1. It is asked at each add, by several
// goroutines at a time, and without the lock.
func newTable(limit func() int) *Table {
	return &Table{start: time.Now(), limit: limit, groups: map[*Group]struct{}{}}
}

// now is the time to call the other methods with.
func (t *Table) now() time.Duration { return time.Since(t.start) }

// group returns a new, empty group.
func (t *Table) group(l Limits) *Group { return &Group{table: t, limits: l} }

// Len is how many sessions there are.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.order.count()
}

// Len is how many sessions the Service port has.
func (g *Group) Len() int {
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	return g.count()
}

// full says whether one session more would be the end of another one.
func (g *Group) full() bool {
	limit := g.table.limit()
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	return g.count() >= g.limits.Sessions || g.table.order.count() >= limit
}

// SetLimits sets other limits for the sessions there are and those to come.
// Those that are too many now are evicted when the next one is added; new
// timeouts count from the last datagram, too.
func (g *Group) SetLimits(l Limits) {
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	g.limits = l
}

// add puts a session that a client begins now into the group, as fresh. It has
// to be in no table. Others are evicted to make room: at each full level, which
// are the client's prefix, the group and the table, the least recently used one
// of the first class that has any.
func (g *Group) add(e *entry, client netip.Addr, now time.Duration) (evicted []*entry) {
	t := g.table
	limit := max(t.limit(), 1)
	prefix := clientPrefix(client)

	t.mu.Lock()
	defer t.mu.Unlock()
	for v := g.tooMany(prefix, limit); v != nil; v = g.tooMany(prefix, limit) {
		t.take(v)
		evicted = append(evicted, v)
	}
	e.group, e.client, e.class = g, prefix, fresh
	t.place(e, now)
	return evicted
}

// clientPrefix is what one client is assumed to have: more addresses of it are
// no more clients.
func clientPrefix(client netip.Addr) netip.Prefix {
	bits := 64
	if client = client.Unmap(); client.Is4() {
		bits = 24
	}
	p, _ := client.Prefix(bits) // without an address: the zero Prefix, as good as any
	return p
}

// tooMany is the victim at the first level that has no room for one more from a
// client, nil if all have.
func (g *Group) tooMany(client netip.Prefix, limit int) *entry {
	sessions := max(g.limits.Sessions, 1)
	if c := g.clients[client]; c != nil && c.count() >= max(sessions/2, 1) {
		return g.table.victim(c)
	}
	if g.count() >= sessions {
		return g.table.victim(&g.due, &g.order)
	}
	if g.table.order.count() >= limit {
		return g.table.victim(&g.table.order)
	}
	return nil
}

func (t *Table) victim(of ...*recency) *entry {
	t.sort()
	return victim(of...)
}

// resume puts a session into the group that began in another table: in the class it has,
// last used then. No room is made for it. It has to be in no table.
func (g *Group) resume(e *entry, client netip.Addr, used time.Duration) {
	t := g.table
	t.mu.Lock()
	defer t.mu.Unlock()
	e.group, e.client = g, clientPrefix(client)
	t.place(e, used)
	t.mixed = true
}

// sort puts all entries in order, once for all that were resumed since.
func (t *Table) sort() {
	if !t.mixed {
		return
	}
	t.mixed = false
	t.order.sort()
	for g := range t.groups {
		g.due.moveTo(&g.order)
		g.order.sort()
		for _, c := range g.clients {
			c.sort()
		}
	}
}

func (g *Group) count() int { return g.due.count() + g.order.count() }

// touch notes that a datagram of a session passed now, in either direction. It
// is nothing but that for an entry that is not in the table any more.
func (t *Table) touch(e *entry, now time.Duration) {
	e.used.Store(int64(now))
	if now-time.Duration(e.placed.Load()) < replaceAfter {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.group != nil {
		t.place(e, now)
	}
}

// move changes the class of a session, which counts as a use of it: one that is
// left lives on for the whole of Limits.Idle. It does nothing to an entry that
// is not in the table any more.
func (t *Table) move(e *entry, to class, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.group == nil {
		return
	}
	t.displace(e)
	e.class = to
	t.place(e, now)
}

// remove takes a session that has ended out of the table. It returns false if
// it is not there: never was, or was taken out before.
func (t *Table) remove(e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.group == nil {
		return false
	}
	t.take(e)
	return true
}

// expired takes out the sessions that had no datagram for as long as their
// limits say, and returns them. It takes time for these, for those that will be
// due within a second, and for each group with sessions; not for all others.
func (t *Table) expired(now time.Duration) (list []*entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sort()
	for g := range t.groups {
		for c := range classes {
			list = g.expired(list, c, now)
		}
	}
	return list
}

// expired takes out the expired ones of a class and appends them. No entry is
// used before it is placed: behind the first one in the order that was placed
// too late to have expired nobody has.
func (g *Group) expired(list []*entry, c class, now time.Duration) []*entry {
	timeout := g.limits.timeout(c)
	for range g.due.len(c) { // a full turn, which leaves the order as it was
		if e := g.due.oldest(c); now-time.Duration(e.used.Load()) >= timeout {
			list = append(list, e)
			g.table.take(e)
		} else {
			g.due.add(e)
		}
	}
	for e := g.order.oldest(c); e != nil && now-time.Duration(e.placed.Load()) >= timeout; e = g.order.oldest(c) {
		if now-time.Duration(e.used.Load()) >= timeout {
			list = append(list, e)
			g.table.take(e)
		} else {
			g.order.remove(e)
			g.due.add(e)
		}
	}
	return list
}

// place puts an entry at the recent end everywhere, whether it was there before
// or not.
func (t *Table) place(e *entry, now time.Duration) {
	e.used.Store(int64(now))
	e.placed.Store(int64(now))
	g := e.group
	t.groups[g] = struct{}{}
	t.order.add(e)
	g.due.remove(e)
	g.order.add(e)
	if g.clients == nil {
		g.clients = map[netip.Prefix]*recency{}
	}
	client := g.clients[e.client]
	if client == nil {
		client = new(recency)
		g.clients[e.client] = client
	}
	client.add(e)
}

// take takes an entry out of the table, and forgets what gets empty: a map keeps
// the memory of the most it ever held.
func (t *Table) take(e *entry) {
	g := e.group
	t.displace(e)
	e.group = nil
	if g.clients[e.client].count() == 0 {
		delete(g.clients, e.client)
	}
	if g.count() == 0 {
		g.due, g.order, g.clients = recency{}, recency{}, nil
		delete(t.groups, g)
	}
	if len(t.groups) == 0 {
		t.order, t.mixed = recency{}, false
	}
}

// displace takes an entry out of all orders.
func (t *Table) displace(e *entry) {
	g := e.group
	t.order.remove(e)
	g.due.remove(e)
	g.order.remove(e)
	g.clients[e.client].remove(e)
}
