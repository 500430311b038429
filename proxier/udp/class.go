package udp

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// class is what is known of a session: how much its client would miss it. The
// order is that in which sessions are evicted.
type class uint8

const (
	left     class = iota // its client has another session now: only late replies may come
	answered              // one datagram each way: as a rule nothing more will come
	fresh                 // one datagram in, no answer yet: any address can be forged that far
	oneWay                // several in, no answer
	known                 // anything more: a conversation

	classes // how many there are
)

// timeout is how long a session of a class lives without a datagram.
func (l Limits) timeout(c class) time.Duration {
	switch c {
	case answered, known:
		return l.Stream
	}
	return l.Idle
}

// recency is the order in which entries were placed, for each class on its own.
// The zero value is empty.
type recency [classes]*simplelru.LRU[*entry, struct{}]

// add makes an entry the most recent one of its class, whether it was there
// before or not.
func (r *recency) add(e *entry) {
	if r[e.class] == nil {
		r[e.class], _ = simplelru.NewLRU[*entry, struct{}](math.MaxInt, nil) // fails below 1 only
	}
	r[e.class].Add(e, struct{}{})
}

// remove takes an entry out if it is there.
func (r *recency) remove(e *entry) {
	if lru := r[e.class]; lru != nil {
		lru.Remove(e)
	}
}

func (r *recency) len(c class) int {
	if r[c] == nil {
		return 0
	}
	return r[c].Len()
}

// count is how many entries there are in all classes.
func (r *recency) count() (n int) {
	for c := range classes {
		n += r.len(c)
	}
	return n
}

// oldest is the least recent entry of a class, nil without any.
func (r *recency) oldest(c class) *entry {
	if r[c] == nil {
		return nil
	}
	e, _, _ := r[c].GetOldest()
	return e
}

// moveTo makes all entries the most recent ones of another recency.
func (r *recency) moveTo(other *recency) {
	for c := range classes {
		for e := r.oldest(c); e != nil; e = r.oldest(c) {
			r.remove(e)
			other.add(e)
		}
	}
}

// sort orders the entries by when they were placed, which is all that it costs where they
// already are.
func (r *recency) sort() {
	byPlace := func(a, b *entry) int { return cmp.Compare(a.placed.Load(), b.placed.Load()) }
	for c := range classes {
		if r.len(c) < 2 {
			continue
		}
		entries := r[c].Keys() // the oldest first
		if slices.IsSortedFunc(entries, byPlace) {
			continue
		}
		slices.SortFunc(entries, byPlace)
		for _, e := range entries {
			r[c].Get(e) // makes it the most recent one
		}
	}
}

// victim is the entry to go first: the oldest one of the first class that has
// any. Of several recencies the entries of the former are older in each class.
func victim(of ...*recency) *entry {
	for c := range classes {
		for _, r := range of {
			if e := r.oldest(c); e != nil {
				return e
			}
		}
	}
	return nil
}
