package observe

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultRingSize is how many records a Ring is meant to hold: a few minutes of a busy
// node, in about 8 MB, and as much garbage.
const DefaultRingSize = 16384

// Ring holds the newest records, for whoever wants to see what has just happened. It is
// safe for concurrent use.
//
// Who reads has to keep up, not who adds: to add costs one short lock, however many
// read and whatever they filter. The ring itself is the queue of each Follower, who
// loses what is overwritten before it was read, and is told how much that was.
type Ring struct {
	lost atomic.Uint64 // by all followers

	mu      sync.Mutex
	slots   []*Record
	next    uint64        // how many have been added; the last is in slots[(next-1)%len(slots)]
	awaited chan struct{} // closed by the next record, nil if nobody waits for one
	// unused is never written to, so that the kernel provides no memory for it; but for the
	// garbage collector it is in use, which lets it wait for more garbage. A full ring is
	// that much work for the collector, and each connection would pay for it.
	unused []byte
}

// unusedEach is for each record of a full ring: a quarter of it ($GOGC of usher run) is about
// what a record takes.
const unusedEach = 2048

// NewRing returns a Ring that holds up to size records, at least one.
func NewRing(size int) *Ring { return &Ring{slots: make([]*Record, max(size, 1))} }

// Size is how many records it holds at most.
func (r *Ring) Size() int { return len(r.slots) }

// Held is how many records it holds now.
func (r *Ring) Held() int { return int(min(r.added(), uint64(len(r.slots)))) }

// Lost counts the records that followers have lost, each follower's for itself.
func (r *Ring) Lost() uint64 { return r.lost.Load() }

// add puts in a record, over the oldest one if there is no room. To a nil Ring it does
// nothing.
func (r *Ring) add(record *Record) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.slots[r.next%uint64(len(r.slots))] = record
	if r.next++; r.unused == nil && r.next >= uint64(len(r.slots)) {
		r.unused = make([]byte, len(r.slots)*unusedEach)
	}
	if r.awaited != nil {
		close(r.awaited)
		r.awaited = nil
	}
	r.mu.Unlock()
}

// chunk is how many records are read under one lock, so that who adds one meanwhile
// waits for less than a microsecond.
const chunk = 128

// Newest yields the records that f wants, the one added last first. Records that come
// meanwhile are not among them, and those that are overwritten meanwhile are left out.
func (r *Ring) Newest(f Filter) iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		for _, record := range r.backwards() {
			if f.Wants(record) && !yield(record) {
				return
			}
		}
	}
}

// backwards yields all records with their numbers, the newest first.
func (r *Ring) backwards() iter.Seq2[uint64, *Record] {
	return func(yield func(uint64, *Record) bool) {
		var room [chunk]*Record
		for end := r.added(); end > 0; {
			begin := end - min(end, chunk)
			some, first := r.read(room[:0], begin, end)
			for i := len(some) - 1; i >= 0; i-- {
				if !yield(first+uint64(i), some[i]) {
					return
				}
			}
			if first > begin {
				return // the others are overwritten
			}
			end = begin
		}
	}
}

func (r *Ring) added() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// read appends those of the records from begin up to end that are still there, and
// returns the number of the first of them.
func (r *Ring) read(to []*Record, begin, end uint64) (_ []*Record, first uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = r.first(begin)
	return r.appendTo(to, first, end), first
}

// readOn appends the next chunk that is still there from begin on, and returns the number
// of its first record.
func (r *Ring) readOn(to []*Record, begin uint64) (_ []*Record, first uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = r.first(begin)
	return r.appendTo(to, first, first+chunk), first
}

// first is the number of the oldest record from begin on; the lock is held.
func (r *Ring) first(begin uint64) uint64 {
	if size := uint64(len(r.slots)); r.next > size {
		return max(begin, r.next-size)
	}
	return begin
}

func (r *Ring) appendTo(to []*Record, first, end uint64) []*Record {
	for n := first; n < min(end, r.next); n++ {
		to = append(to, r.slots[n%uint64(len(r.slots))])
	}
	return to
}

// Follow returns a Follower of the records that f wants: first the newest last of those
// that are there, then all that come.
func (r *Ring) Follow(f Filter, last int) *Follower {
	follower := &Follower{ring: r, filter: f, next: r.added()}
	if last <= 0 {
		return follower
	}
	for n, record := range r.backwards() {
		if !f.Wants(record) {
			continue
		}
		follower.next = n
		if last--; last == 0 {
			break
		}
	}
	return follower
}

// Follower reads the records of a Ring as they come. It belongs to one goroutine. It
// holds nothing that has to be closed.
type Follower struct {
	ring   *Ring
	filter Filter
	next   uint64 // the number of the record to read next
	batch  [chunk]*Record
}

// followPause is between two looks of a follower into a busy ring: to wake it for every
// record would cost those who add them.
const followPause = 50 * time.Millisecond

// Next waits for records that the Follower wants, and returns at most 128 of them,
// oldest first, valid until it is called again. lost is how many records were
// overwritten before they were read, just before these, wanted or not: nobody knows.
// It returns with what there is, maybe nothing, when records were lost. The error is
// that of ctx.
func (f *Follower) Next(ctx context.Context) (records []*Record, lost uint64, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		some, first := f.ring.readOn(f.batch[:0], f.next)
		lost = first - f.next
		f.next = first + uint64(len(some))
		f.ring.lost.Add(lost)
		kept := some[:0]
		for _, r := range some {
			if f.filter.Wants(r) {
				kept = append(kept, r)
			}
		}
		if len(kept) > 0 || lost > 0 {
			return kept, lost, nil
		}
		if len(some) == 0 {
			if err := f.wait(ctx); err != nil {
				return nil, 0, err
			}
		}
	}
}

// wait waits for the next record, and then for some more.
func (f *Follower) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.ring.await(f.next):
	}
	pause := time.NewTimer(followPause)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-pause.C:
		return nil
	}
}

var now = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// await returns what is closed when there is a record with this number.
func (r *Ring) await(number uint64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next > number {
		return now
	}
	if r.awaited == nil {
		r.awaited = make(chan struct{})
	}
	return r.awaited
}
