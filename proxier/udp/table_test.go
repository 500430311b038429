package udp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var usualLimits = Limits{Sessions: 4096, Idle: 30 * time.Second, Stream: 120 * time.Second}

// tableOf returns a table for so many sessions.
func tableOf(limit int) *Table { return newTable(func() int { return limit }) }

// v4 is the n-th address from 10.0.0.0 on, v6 one in the n-th /64.
func v4(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func v6(n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 4: byte(n >> 24), 5: byte(n >> 16), 6: byte(n >> 8), 7: byte(n), 15: 1})
}

// far are addresses in as many prefixes.
func far(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, byte(n >> 8), byte(n), 1})
}

// names are the entries of a scenario by their names.
type names map[string]*entry

func (n names) of(entries ...*entry) string {
	var list []string
	for name, e := range n {
		if slices.Contains(entries, e) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	if len(list) != len(entries) {
		return fmt.Sprintf("%s among %d entries", list, len(entries))
	}
	return strings.Join(list, " ")
}

// isEmpty says that nothing is kept of all that was in the table.
func isEmpty(t *testing.T, table *Table, groups ...*Group) {
	t.Helper()
	if table.Len() != 0 || len(table.groups) != 0 || table.order != (recency{}) {
		t.Errorf("the table keeps %d sessions, %d groups, %v", table.Len(), len(table.groups), table.order)
	}
	for i, g := range groups {
		if g.Len() != 0 || g.clients != nil || g.order != (recency{}) || g.due != (recency{}) {
			t.Errorf("group %d keeps %d sessions, %d prefixes, %v, %v", i, g.Len(), len(g.clients), g.order, g.due)
		}
	}
}

// TestTheVictim adds sessions in an order, each to the class it has, then one
// more to a table, group or prefix that has no room for it.
func TestTheVictim(t *testing.T) {
	type step struct {
		name   string
		group  int
		client string
		class  class
	}
	table, port, prefix := 4, 4, 2 // sessions they may have
	many := 100
	for _, c := range []struct {
		name       string
		limit      int
		sessions   int
		there      []step
		last       step
		wantVictim string
	}{
		{"nobody, with room", table + 1, port + 1, []step{
			{"a", 0, "10.0.0.1", fresh}, {"b", 0, "10.0.1.1", fresh}, {"c", 0, "10.0.2.1", fresh}, {"d", 0, "10.0.3.1", fresh},
		}, step{"new", 0, "10.0.9.1", fresh}, ""},
		{"the oldest of the port", many, port, []step{
			{"a", 0, "10.0.0.1", fresh}, {"b", 0, "10.0.1.1", fresh}, {"c", 0, "10.0.2.1", fresh}, {"d", 0, "10.0.3.1", fresh},
		}, step{"new", 0, "10.0.9.1", fresh}, "a"},
		{"left before all", many, port, []step{
			{"a", 0, "10.0.0.1", answered}, {"b", 0, "10.0.1.1", fresh}, {"c", 0, "10.0.2.1", oneWay}, {"d", 0, "10.0.3.1", left},
		}, step{"new", 0, "10.0.9.1", fresh}, "d"},
		{"answered before fresh", many, port, []step{
			{"a", 0, "10.0.0.1", known}, {"b", 0, "10.0.1.1", oneWay}, {"c", 0, "10.0.2.1", fresh}, {"d", 0, "10.0.3.1", answered},
		}, step{"new", 0, "10.0.9.1", fresh}, "d"},
		{"fresh before one-way", many, port, []step{
			{"a", 0, "10.0.0.1", known}, {"b", 0, "10.0.1.1", oneWay}, {"c", 0, "10.0.2.1", oneWay}, {"d", 0, "10.0.3.1", fresh},
		}, step{"new", 0, "10.0.9.1", fresh}, "d"},
		{"one-way before known", many, port, []step{
			{"a", 0, "10.0.0.1", known}, {"b", 0, "10.0.1.1", known}, {"c", 0, "10.0.2.1", oneWay}, {"d", 0, "10.0.3.1", oneWay},
		}, step{"new", 0, "10.0.9.1", fresh}, "c"},
		{"a known one if there are no others, and not the new one", many, port, []step{
			{"a", 0, "10.0.0.1", known}, {"b", 0, "10.0.1.1", known}, {"c", 0, "10.0.2.1", known}, {"d", 0, "10.0.3.1", known},
		}, step{"new", 0, "10.0.9.1", fresh}, "a"},
		{"one of the client's /24, if that has half", many, port, []step{
			{"a", 0, "10.0.0.1", fresh}, {"b", 0, "10.0.1.1", known}, {"c", 0, "10.0.1.255", known},
		}, step{"new", 0, "10.0.1.7", fresh}, "b"},
		{"one of the client's /24, also if it was seen by an IPv6 socket", many, port, []step{
			{"a", 0, "10.0.0.1", fresh}, {"b", 0, "::ffff:10.0.1.1", known}, {"c", 0, "10.0.1.255", known},
		}, step{"new", 0, "::ffff:10.0.1.7", fresh}, "b"},
		{"one of the client's /64", many, port, []step{
			{"a", 0, "2001:db8:0:2::1", fresh}, {"b", 0, "2001:db8:0:1::1", known}, {"c", 0, "2001:db8:0:1:ffff::2", known},
		}, step{"new", 0, "2001:db8:0:1::7", fresh}, "b"},
		{"nobody of the next /64", many, port, []step{
			{"a", 0, "2001:db8:0:1::1", fresh}, {"b", 0, "2001:db8:0:1::2", fresh},
		}, step{"new", 0, "2001:db8:0:2::1", fresh}, ""},
		{"one of the client's prefix only, if the port is full too", many, prefix, []step{
			{"a", 0, "10.0.0.1", fresh}, {"b", 0, "10.0.1.1", known},
		}, step{"new", 0, "10.0.1.7", fresh}, "b"},
		{"nobody of the same prefix at another port", many, prefix, []step{
			{"a", 0, "10.0.0.1", fresh},
		}, step{"new", 1, "10.0.0.1", fresh}, ""},
		{"the only one of a port that may have one", many, 1, []step{
			{"a", 0, "10.0.0.1", known},
		}, step{"new", 0, "10.0.9.1", fresh}, "a"},
		{"the only one of a port that may have less than one", many, -1, []step{
			{"a", 0, "10.0.0.1", known},
		}, step{"new", 0, "10.0.9.1", fresh}, "a"},
		{"the first class's in all, of any port", table, many, []step{
			{"a", 0, "10.0.0.1", known}, {"b", 0, "10.0.1.1", known}, {"c", 1, "10.0.2.1", fresh}, {"d", 0, "10.0.3.1", oneWay},
		}, step{"new", 0, "10.0.9.1", fresh}, "c"},
		{"the oldest in all, of any port", table, many, []step{
			{"a", 1, "10.0.0.1", known}, {"b", 0, "10.0.1.1", known}, {"c", 0, "10.0.2.1", known}, {"d", 0, "10.0.3.1", known},
		}, step{"new", 0, "10.0.9.1", fresh}, "a"},
		{"the only one of a table that may have less than one", -1, many, []step{
			{"a", 0, "10.0.0.1", known},
		}, step{"new", 1, "10.0.9.1", fresh}, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := tableOf(c.limit)
			l := Limits{Sessions: c.sessions, Idle: time.Minute, Stream: time.Hour}
			groups := []*Group{all.group(l), all.group(l)}
			entries, now := names{}, time.Duration(0)
			add := func(s step) []*entry {
				now++
				e := new(entry)
				entries[s.name] = e
				evicted := groups[s.group].add(e, netip.MustParseAddr(s.client), now)
				if s.class != fresh {
					all.move(e, s.class, now)
				}
				return evicted
			}
			for _, s := range c.there {
				if evicted := add(s); evicted != nil {
					t.Fatalf("%s evicted %s", s.name, entries.of(evicted...))
				}
			}
			if got := entries.of(add(c.last)...); got != c.wantVictim {
				t.Errorf("evicted %q, want %q", got, c.wantVictim)
			}
			if want := len(entries) - len(strings.Fields(c.wantVictim)); all.Len() != want {
				t.Errorf("%d sessions, want %d", all.Len(), want)
			}
		})
	}
}

func TestTheLeastRecentlyUsedGoesFirst(t *testing.T) {
	table := tableOf(100)
	g := table.group(Limits{Sessions: 3, Idle: time.Minute, Stream: time.Hour})
	a, b, c := new(entry), new(entry), new(entry)
	entries := names{"a": a, "b": b, "c": c}
	now := time.Duration(0)
	for i, e := range []*entry{a, b, c} {
		g.add(e, far(i), now)
		table.move(e, known, now)
	}
	order := func(used ...*entry) string {
		for _, e := range used {
			now += 2 * time.Second
			table.touch(e, now)
		}
		var gone []string
		for i := range 3 {
			e := new(entry)
			gone = append(gone, entries.of(g.add(e, far(10+i), now)...))
			table.move(e, known, now)
		}
		return strings.Join(gone, ", ")
	}
	if got, want := order(a, c, b, a), "c, b, a"; got != want {
		t.Errorf("evicted %s, want %s", got, want)
	}
}

func TestAUseWithinASecondLeavesThePlace(t *testing.T) {
	table := tableOf(100)
	g := table.group(Limits{Sessions: 2, Idle: time.Minute, Stream: time.Hour})
	a, b := new(entry), new(entry)
	g.add(a, far(1), 0)
	g.add(b, far(2), 1)
	table.touch(a, replaceAfter-1)
	if got := victim(&g.order); got != a {
		t.Error("a was moved within the second")
	}
	table.touch(a, replaceAfter)
	if got := victim(&g.order); got != b {
		t.Error("a was not moved after a second")
	}
}

// everySecond runs the table's timer for so long. It returns who expired, and
// when, since it began.
func everySecond(table *Table, d time.Duration, each func(second int)) map[*entry]time.Duration {
	start, gone := table.now(), map[*entry]time.Duration{}
	for second := 1; second <= int(d/time.Second); second++ {
		time.Sleep(time.Second)
		for _, e := range table.expired(table.now()) {
			gone[e] = table.now() - start
		}
		if each != nil {
			each(second)
		}
	}
	return gone
}

func TestASessionInUseLivesAllDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := tableOf(1000)
		g := table.group(usualLimits)
		busy, chatty, idle, unanswered := new(entry), new(entry), new(entry), new(entry)
		entries := names{"busy": busy, "chatty": chatty, "idle": idle, "unanswered": unanswered}
		for i, e := range []*entry{busy, chatty, idle, unanswered} {
			g.add(e, v4(i), table.now())
			if e != unanswered {
				table.move(e, known, table.now())
			}
		}
		gone := everySecond(table, 24*time.Hour, func(second int) {
			table.touch(chatty, table.now())
			if second%100 == 0 {
				table.touch(busy, table.now())
			}
		})
		if len(gone) != 2 || gone[idle] != usualLimits.Stream || gone[unanswered] != usualLimits.Idle {
			for e, at := range gone {
				t.Errorf("%s expired after %v", entries.of(e), at)
			}
		}
		if table.Len() != 2 || g.Len() != 2 {
			t.Errorf("%d sessions in the table, %d of the port, want 2", table.Len(), g.Len())
		}
		gone = everySecond(table, usualLimits.Stream, nil)
		if last := gone[busy]; last != usualLimits.Stream { // its last use was the last thing
			t.Errorf("busy expired %v after its last use", last)
		}
		isEmpty(t, table, g)
	})
}

func TestTheTimeoutOfEachClass(t *testing.T) {
	for c, want := range map[class]time.Duration{
		left: usualLimits.Idle, answered: usualLimits.Stream, fresh: usualLimits.Idle, oneWay: usualLimits.Idle, known: usualLimits.Stream,
	} {
		t.Run(fmt.Sprint("class ", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := tableOf(10)
				g := table.group(usualLimits)
				e := new(entry)
				g.add(e, v4(1), table.now())
				time.Sleep(10 * time.Second)
				table.move(e, c, table.now()) // from which it lives anew
				if used := time.Duration(e.used.Load()); used != table.now() {
					t.Errorf("used at %v, want %v", used, table.now())
				}
				time.Sleep(want - time.Nanosecond)
				if table.expired(table.now()) != nil {
					t.Fatal("expired too soon")
				}
				time.Sleep(time.Nanosecond)
				if got := table.expired(table.now()); len(got) != 1 || got[0] != e {
					t.Fatal("not expired in time")
				}
				isEmpty(t, table, g)
			})
		})
	}
}

// TestExpiryIsExact has sessions that were used within a second after they were
// placed, which their places do not tell.
func TestExpiryIsExact(t *testing.T) {
	for _, lru := range []bool{false, true} { // an entry that is due is the first to be evicted
		table := tableOf(100)
		g := table.group(Limits{Sessions: 3, Idle: 30 * time.Second, Stream: time.Hour})
		late, early, later := new(entry), new(entry), new(entry)
		entries := names{"late": late, "early": early, "later": later}
		g.add(late, far(1), 0)
		g.add(early, far(2), 100*time.Millisecond)
		g.add(later, far(3), 200*time.Millisecond)
		table.touch(late, 900*time.Millisecond)
		table.touch(later, 950*time.Millisecond)

		at := func(ms int, want string) {
			t.Helper()
			if got := entries.of(table.expired(time.Duration(ms) * time.Millisecond)...); got != want {
				t.Errorf("at %d ms %q expired, want %q", ms, got, want)
			}
		}
		at(30_099, "")
		at(30_100, "early")
		at(30_500, "")
		if lru {
			g.add(new(entry), far(4), 30_600*time.Millisecond)
			if got := entries.of(g.add(new(entry), far(5), 30_600*time.Millisecond)...); got != "late" {
				t.Errorf("%q was evicted, want late", got)
			}
			at(30_900, "")
			continue
		}
		at(30_899, "")
		at(30_900, "late")
		table.touch(later, 30_949*time.Millisecond) // in the nick of time
		at(30_950, "")
		at(60_948, "")
		at(60_949, "later")
		isEmpty(t, table, g)
	}
}

func TestLimitsChangeWhileSessionsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := tableOf(1000)
		g, other := table.group(usualLimits), table.group(usualLimits)
		for i := range 100 {
			g.add(new(entry), far(i), table.now())
			other.add(new(entry), far(i), table.now())
			time.Sleep(time.Millisecond)
		}
		fewer := usualLimits
		fewer.Sessions = 10
		g.SetLimits(fewer)
		if g.Len() != 100 {
			t.Errorf("%d sessions before a new one, want 100", g.Len())
		}
		if evicted := g.add(new(entry), far(100), table.now()); len(evicted) != 91 || g.Len() != 10 {
			t.Errorf("the next one evicted %d, %d are left", len(evicted), g.Len())
		}
		if evicted := g.add(new(entry), far(101), table.now()); len(evicted) != 1 || g.Len() != 10 {
			t.Errorf("the one after it evicted %d, %d are left", len(evicted), g.Len())
		}
		g.SetLimits(usualLimits)
		if evicted := g.add(new(entry), far(102), table.now()); evicted != nil || g.Len() != 11 {
			t.Errorf("with more room %d were evicted, %d are left", len(evicted), g.Len())
		}

		// Timeouts: one port has to wait longer, another shorter, then the same.
		longer, shorter := usualLimits, usualLimits
		longer.Idle, shorter.Idle = time.Minute, 10*time.Second
		g.SetLimits(longer)
		other.SetLimits(shorter)
		time.Sleep(usualLimits.Idle - time.Nanosecond)
		if gone := table.expired(table.now()); len(gone) != 100 || g.Len() != 11 || other.Len() != 0 {
			t.Errorf("%d expired, the port has %d, the other one %d", len(gone), g.Len(), other.Len())
		}
		g.SetLimits(usualLimits)
		time.Sleep(time.Nanosecond)
		if gone := table.expired(table.now()); len(gone) != 11 {
			t.Errorf("%d expired, want 11", len(gone))
		}
		isEmpty(t, table, g, other)
	})
}

func TestATimeoutOfNothingHasAlwaysPassed(t *testing.T) {
	for _, d := range []time.Duration{0, -time.Hour} {
		table := tableOf(10)
		g := table.group(Limits{Sessions: 10, Idle: d, Stream: d})
		g.add(new(entry), v4(1), 5)
		if gone := table.expired(5); len(gone) != 1 {
			t.Errorf("%d expired with a timeout of %v", len(gone), d)
		}
	}
}

func TestTheTableHasRoomForLessAllAtOnce(t *testing.T) {
	var limit atomic.Int64
	limit.Store(100)
	table := newTable(func() int { return int(limit.Load()) })
	a, b := table.group(usualLimits), table.group(usualLimits)
	for i := range 50 {
		a.add(new(entry), far(i), 0)
		b.add(new(entry), far(i), 1)
	}
	if evicted := a.add(new(entry), far(50), 2); len(evicted) != 1 || table.Len() != 100 {
		t.Errorf("at the limit %d were evicted, %d are left", len(evicted), table.Len())
	}
	limit.Store(20)
	evicted := a.add(new(entry), far(51), 3)
	if len(evicted) != 81 || table.Len() != 20 || a.Len()+b.Len() != 20 {
		t.Errorf("with less room %d were evicted, %d are left: %d and %d", len(evicted), table.Len(), a.Len(), b.Len())
	}
	limit.Store(0)
	if a.add(new(entry), far(52), 4); table.Len() != 1 || a.Len() != 1 {
		t.Errorf("without room there are %d sessions, want the new one", table.Len())
	}
}

// TestAFloodLeavesConversationsAlone has 65,536 sources that send one datagram
// each, as somebody who forges addresses does.
func TestAFloodLeavesConversationsAlone(t *testing.T) {
	for _, c := range []struct {
		name    string
		flood   func(int) netip.Addr
		talking func(int) netip.Addr
	}{
		{"of a /16", v4, far},
		{"of the same prefixes", v4, func(n int) netip.Addr { return v4(n * 100) }},
		{"of the same /24", func(n int) netip.Addr { return v4(n % 256) }, v4},
		{"of as many /64", v6, func(n int) netip.Addr { return v6(100_000 + n) }},
		{"of the same /64", func(int) netip.Addr { return v6(0) }, func(int) netip.Addr { return v6(0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			const limit = 10_000
			table := tableOf(limit)
			g, other := table.group(usualLimits), table.group(usualLimits)
			talking := map[*entry]bool{}
			for i := range 500 {
				e := new(entry)
				g.add(e, c.talking(i), 0)
				table.move(e, known, 0)
				talking[e] = true
			}
			for i := range 9000 { // another port's, that fill the table
				other.add(new(entry), far(i), 0)
			}
			prefixes := 0
			for i := range 1 << 16 {
				for _, e := range g.add(new(entry), c.flood(i), time.Duration(i)) {
					if talking[e] {
						t.Fatalf("datagram %d ended a conversation", i)
					}
				}
				if table.Len() > limit || g.Len() > usualLimits.Sessions {
					t.Fatalf("%d sessions in all, %d of the port", table.Len(), g.Len())
				}
				prefixes = max(prefixes, len(g.clients))
			}
			for e := range talking {
				if e.group != g {
					t.Fatal("a conversation is not in its place")
				}
			}
			if prefixes > usualLimits.Sessions {
				t.Errorf("%d prefixes at a time", prefixes)
			}
			for e := range talking {
				table.remove(e)
			}
			for range 3 {
				table.expired(time.Hour)
			}
			isEmpty(t, table, g, other)
		})
	}
}

func TestMemoryIsGivenBack(t *testing.T) {
	table := tableOf(100_000)
	l := usualLimits
	l.Sessions = 100_000
	g := table.group(l)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 50_000 {
		g.add(new(entry), v6(i), 0)
	}
	full := heap()
	table.expired(time.Hour)
	after := heap()
	t.Logf("%d bytes per session, each of its own prefix", (full-before)/50_000)
	if after > before+(full-before)/20 {
		t.Errorf("of %d bytes %d are kept", full-before, after-before)
	}
	runtime.KeepAlive(g)
}

func TestWhatIsOutStaysOut(t *testing.T) {
	table := tableOf(10)
	g := table.group(usualLimits)
	e := new(entry)
	if table.remove(e) {
		t.Error("removed before it was added")
	}
	g.add(e, v4(1), 0)
	if !table.remove(e) || table.remove(e) {
		t.Error("not removed exactly once")
	}
	table.touch(e, time.Minute)
	table.move(e, known, time.Minute)
	isEmpty(t, table, g)

	g.add(e, v4(1), time.Minute) // as new
	if used := time.Duration(e.used.Load()); used != time.Minute {
		t.Errorf("used at %v, want %v", used, time.Minute)
	}
	if got := table.expired(2 * time.Minute); len(got) != 1 || e.class != fresh {
		t.Errorf("%d expired, class %d", len(got), e.class)
	}
	g.add(e, netip.Addr{}, 0) // nobody's address is a client as well
	if !table.remove(e) {
		t.Error("without an address not there")
	}
	isEmpty(t, table, g)
}

// TestEachEntryIsHandedOutOnce has loops that add, use and remove sessions of
// two ports while others expire and limits change.
func TestEachEntryIsHandedOutOnce(t *testing.T) {
	const loops, rounds = 4, 5000
	var limit atomic.Int64
	limit.Store(150)
	table := newTable(func() int { return int(limit.Load()) })
	l := Limits{Sessions: 100, Idle: 30 * time.Microsecond, Stream: 100 * time.Microsecond}
	groups := []*Group{table.group(l), table.group(l)}

	var added, evicted, removed, expired atomic.Int64
	var out sync.Map // the entries handed out
	handOut := func(entries ...*entry) {
		for _, e := range entries {
			if _, twice := out.LoadOrStore(e, true); twice {
				t.Error("handed out twice")
			}
		}
	}
	expire := func(now time.Duration) {
		gone := table.expired(now)
		expired.Add(int64(len(gone)))
		handOut(gone...)
	}
	var loopsDone, timerDone sync.WaitGroup
	stop := make(chan struct{})
	timerDone.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			expire(table.now())
			limit.Store(int64(100 + i%100))
			groups[i%2].SetLimits(Limits{Sessions: 50 + i%100, Idle: l.Idle, Stream: l.Stream})
			if table.Len() > 200 || groups[0].Len() > 150 {
				t.Error("too many sessions")
			}
			runtime.Gosched()
		}
	})
	for n := range loops {
		loopsDone.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 0))
			var mine []*entry
			for range rounds {
				e := new(entry)
				mine = append(mine, e)
				gone := groups[random.IntN(2)].add(e, v4(random.IntN(2000)), table.now())
				added.Add(1)
				evicted.Add(int64(len(gone)))
				handOut(gone...)
				for range 3 {
					e := mine[random.IntN(len(mine))]
					table.touch(e, table.now()+time.Duration(random.IntN(2))*time.Millisecond)
					table.move(e, min(e.class+1, known), table.now())
				}
				if e := mine[random.IntN(len(mine))]; table.remove(e) {
					removed.Add(1)
					handOut(e)
				}
				mine = mine[max(0, len(mine)-50):]
			}
		})
	}
	loopsDone.Wait()
	close(stop)
	timerDone.Wait()
	expire(table.now() + time.Hour)
	isEmpty(t, table, groups...)
	if evicted.Load() == 0 || removed.Load() == 0 || expired.Load() == 0 ||
		added.Load() != loops*rounds || evicted.Load()+removed.Load()+expired.Load() != added.Load() {
		t.Errorf("%d added, %d evicted, %d removed, %d expired", added.Load(), evicted.Load(), removed.Load(), expired.Load())
	}
}

// model does what a Table does in the most obvious way. Its entries are in the
// order of their last placement.
type model struct {
	limit   int
	limits  []Limits
	entries []*modelled
}

type modelled struct {
	*entry
	group        int
	prefix       string
	class        class
	used, placed time.Duration
}

func (m *model) find(e *entry) int {
	return slices.IndexFunc(m.entries, func(x *modelled) bool { return x.entry == e })
}

// victim is the one to go if so many or more of the entries belong.
func (m *model) victim(limit int, belongs func(*modelled) bool) *entry {
	var belonging []*modelled
	for _, e := range m.entries {
		if belongs(e) {
			belonging = append(belonging, e)
		}
	}
	if len(belonging) < max(limit, 1) {
		return nil
	}
	slices.SortStableFunc(belonging, func(a, b *modelled) int { return int(a.class) - int(b.class) })
	return belonging[0].entry
}

func (m *model) add(e *modelled) (evicted []*entry) {
	sessions := max(m.limits[e.group].Sessions, 1)
	evict := func(limit int, belongs func(*modelled) bool) {
		for v := m.victim(limit, belongs); v != nil; v = m.victim(limit, belongs) {
			m.remove(v)
			evicted = append(evicted, v)
		}
	}
	evict(sessions/2, func(x *modelled) bool { return x.group == e.group && x.prefix == e.prefix })
	evict(sessions, func(x *modelled) bool { return x.group == e.group })
	evict(m.limit, func(*modelled) bool { return true })
	m.entries = append(m.entries, e)
	return evicted
}

func (m *model) remove(e *entry) bool {
	i := m.find(e)
	if i >= 0 {
		m.entries = slices.Delete(m.entries, i, i+1)
	}
	return i >= 0
}

func (m *model) use(e *entry, to class, now time.Duration) {
	i := m.find(e)
	if i < 0 {
		return
	}
	x := m.entries[i]
	moved := x.class != to
	x.used, x.class = now, to
	if moved || now-x.placed >= time.Second {
		x.placed = now
		m.entries = append(slices.Delete(m.entries, i, i+1), x)
	}
}

func (m *model) expired(now time.Duration) (list []*entry) {
	m.entries = slices.DeleteFunc(m.entries, func(e *modelled) bool {
		timeout := m.limits[e.group].Idle
		if e.class == answered || e.class == known {
			timeout = m.limits[e.group].Stream
		}
		over := now-e.used >= timeout
		if over {
			list = append(list, e.entry)
		}
		return over
	})
	return list
}

func TestTheTableDoesWhatItsModelDoes(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { compareWithModel(t, seed, 1500) })
	}
}

func compareWithModel(t *testing.T, seed uint64, operations int) {
	random := rand.New(rand.NewPCG(seed, 4))
	limits := func() Limits {
		return Limits{
			Sessions: random.IntN(30),
			Idle:     time.Duration(random.IntN(5000)) * time.Millisecond,
			Stream:   time.Duration(random.IntN(20000)) * time.Millisecond,
		}
	}
	m := &model{limit: 50}
	table := newTable(func() int { return m.limit })
	var groups []*Group
	for range 3 {
		m.limits = append(m.limits, limits())
		groups = append(groups, table.group(m.limits[len(groups)]))
	}
	ids := map[*entry]int{}
	var all []*entry
	same := func(what string, got, want []*entry) {
		t.Helper()
		if !slices.Equal(got, want) {
			number := func(list []*entry) (numbers []int) {
				for _, e := range list {
					numbers = append(numbers, ids[e])
				}
				return numbers
			}
			t.Fatalf("after %d sessions %s are %v, want %v", len(all), what, number(got), number(want))
		}
	}
	byID := func(a, b *entry) int { return ids[a] - ids[b] }

	var now time.Duration
	for range operations {
		now += time.Duration(random.IntN(100)) * time.Millisecond
		some := func() *entry { // one of the last, there or not
			return all[len(all)-1-random.IntN(min(len(all), 80))]
		}
		switch n := random.IntN(100); {
		case n < 35 || all == nil:
			e := new(entry)
			ids[e] = len(all)
			all = append(all, e)
			group, prefix := random.IntN(len(groups)), random.IntN(6)
			client := v4(prefix<<8 | random.IntN(256))
			x := &modelled{entry: e, group: group, prefix: fmt.Sprint(prefix), class: fresh, used: now, placed: now}
			same("the evicted", groups[group].add(e, client, now), m.add(x))
		case n < 70:
			e := some()
			table.touch(e, now)
			if i := m.find(e); i >= 0 {
				m.use(e, m.entries[i].class, now)
			}
		case n < 85:
			e := some()
			if to := class(random.IntN(int(classes))); to != e.class { // as loops do
				table.move(e, to, now)
				m.use(e, to, now)
			}
		case n < 89:
			e := some()
			if got, want := table.remove(e), m.remove(e); got != want {
				t.Fatalf("remove returned %v, want %v", got, want)
			}
		case n < 98:
			got := table.expired(now)
			slices.SortFunc(got, byID)
			want := m.expired(now)
			slices.SortFunc(want, byID)
			same("the expired", got, want)
		case n < 99:
			i := random.IntN(len(groups))
			m.limits[i] = limits()
			groups[i].SetLimits(m.limits[i])
		default:
			m.limit = random.IntN(70)
		}
		consistent(t, table, m, groups)
	}
	table.expired(now + time.Hour)
	isEmpty(t, table, groups...)
}

// consistent says that all levels of the table have the entries of the model.
func consistent(t *testing.T, table *Table, m *model, groups []*Group) {
	t.Helper()
	inGroup, inPrefix := map[*Group]int{}, map[*Group]map[string]int{}
	for _, e := range m.entries {
		g := groups[e.group]
		inGroup[g]++
		if inPrefix[g] == nil {
			inPrefix[g] = map[string]int{}
		}
		inPrefix[g][e.prefix]++
	}
	if table.Len() != len(m.entries) || len(table.groups) != len(inGroup) {
		t.Fatalf("%d sessions of %d ports, want %d of %d", table.Len(), len(table.groups), len(m.entries), len(inGroup))
	}
	for i, g := range groups {
		if g.Len() != inGroup[g] || len(g.clients) != len(inPrefix[g]) {
			t.Fatalf("port %d has %d sessions of %d prefixes, want %d of %d", i, g.Len(), len(g.clients), inGroup[g], len(inPrefix[g]))
		}
		for prefix, r := range g.clients {
			if want := inPrefix[g][fmt.Sprint(prefix.Addr().As4()[2])]; r.count() != want {
				t.Fatalf("port %d has %d sessions of %s, want %d", i, r.count(), prefix, want)
			}
		}
	}
}

func TestADatagramAllocatesNothing(t *testing.T) {
	table := tableOf(100)
	g := table.group(usualLimits)
	for i := range 50 {
		g.add(new(entry), far(i), 0)
	}
	e := new(entry)
	g.add(e, far(99), 0)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() { table.touch(e, 1) }); n != 0 {
		t.Errorf("a use within the second allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { now += replaceAfter; table.touch(e, now) }); n != 0 {
		t.Errorf("a use a second later allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { table.expired(1) }); n != 0 {
		t.Errorf("looking for the expired where there are none allocates %v times", n)
	}
}

// A datagram within the second takes no lock: it passes while another goroutine
// has it.
func TestADatagramTakesNoLock(t *testing.T) {
	table := tableOf(10)
	g := table.group(usualLimits)
	e := new(entry)
	g.add(e, v4(1), 0)
	table.mu.Lock()
	done := make(chan struct{})
	go func() {
		table.touch(e, replaceAfter-1)
		close(done)
	}()
	select {
	case <-done:
		table.mu.Unlock()
	case <-time.After(10 * time.Second):
		table.mu.Unlock()
		<-done
		t.Error("it waited for the lock")
	}
	if e.used.Load() != int64(replaceAfter-1) {
		t.Error("the use was not noted")
	}
}

func BenchmarkTouch(b *testing.B) {
	b.ReportAllocs()
	table := tableOf(100)
	e := new(entry)
	table.group(usualLimits).add(e, v4(1), 0)
	for b.Loop() {
		table.touch(e, 1)
	}
}

func BenchmarkTouchOncePerSecond(b *testing.B) {
	b.ReportAllocs()
	table := tableOf(100_000)
	g := table.group(Limits{Sessions: 100_000, Idle: time.Hour, Stream: time.Hour})
	entries := make([]entry, 10_000)
	for i := range entries {
		g.add(&entries[i], v4(i), 0)
	}
	now := time.Duration(0)
	for i := 0; b.Loop(); i++ {
		now += replaceAfter
		table.touch(&entries[i%len(entries)], now)
	}
}

func BenchmarkAddAtTheLimit(b *testing.B) {
	for name, client := range map[string]func(int) netip.Addr{"prefixes=many": v6, "prefixes=16": func(n int) netip.Addr { return v4(n % 4096) }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			table := tableOf(100_000)
			g := table.group(usualLimits)
			now := time.Duration(0)
			for i := range usualLimits.Sessions {
				g.add(new(entry), client(i), now)
			}
			for i := usualLimits.Sessions; b.Loop(); i++ {
				now++
				if len(g.add(new(entry), client(i), now)) != 1 {
					b.Fatal("nothing was evicted")
				}
			}
		})
	}
}

// BenchmarkSession is all that a query with one answer makes of the table.
func BenchmarkSession(b *testing.B) {
	b.ReportAllocs()
	table := tableOf(100_000)
	g := table.group(usualLimits)
	for i := 0; b.Loop(); i++ {
		e := new(entry)
		g.add(e, v4(i%(1<<20)), time.Duration(i))
		table.move(e, answered, time.Duration(i))
	}
}

// BenchmarkExpiredNone has many sessions in many ports, all of them in use.
func BenchmarkExpiredNone(b *testing.B) {
	for _, sessions := range []int{1000, 100_000} {
		b.Run(fmt.Sprint("sessions=", sessions), func(b *testing.B) {
			table := tableOf(sessions)
			for p := range 100 {
				g := table.group(usualLimits)
				for i := range sessions / 100 {
					g.add(new(entry), far(p<<8|i), 0)
				}
			}
			for b.Loop() {
				if table.expired(time.Second) != nil {
					b.Fatal("expired")
				}
			}
		})
	}
}
