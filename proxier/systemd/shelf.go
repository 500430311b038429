package systemd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Shelf has the manager keep files as they come and go, each under a name of its own, with a
// table that says what they are. What lies there comes back after a crash.
//
// It does one thing after another, beside its caller. The manager compares a new file with
// each that it has, which takes about a microsecond: so many are stored a few at a time, and
// it has four times as long for others afterwards. Removals do not wait.
type Shelf struct {
	again  chan struct{}
	failed func(error)

	mu     sync.Mutex
	has    map[uint64]bool // also what is on its way
	told   []uint64        // what the newest table is of, nil: it was another process'
	letter int             // of tables, that of the newest
	busy   bool
	missed bool // what Keep was called for meanwhile
	closed bool
	after  time.Time // when more may be stored
	timer  *time.Timer
	work   sync.WaitGroup
}

// Kept is a file by a number that no other file has.
type Kept struct {
	ID uint64
	FD int
}

// tables are the names of tables: the next one comes before the last one goes.
var tables = [2]string{"t", "T"}

// maxNames is how many bytes the names may have in $LISTEN_FDNAMES, which are also those of
// others.
const maxNames = 120 << 10

// NewShelf returns one where these files lie already. failed is told of what the manager could
// not be sent.
func NewShelf(has []uint64, failed func(error)) *Shelf {
	s := &Shelf{again: make(chan struct{}, 1), failed: failed, has: map[uint64]bool{}}
	for _, id := range has {
		s.has[id] = true
	}
	return s
}

// Continue is for a process that takes the place of another one: these files lie there too.
func (s *Shelf) Continue(has []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range has {
		s.has[id] = true
	}
}

// KeptName is the name that a file has in the store.
func KeptName(id uint64) string { return "s" + strconv.FormatUint(id, 36) }

// IsTable says whether a name is that of a table.
func IsTable(name string) bool { return slices.Contains(tables[:], name) }

// Again receives when Keep is to be called once more: it was busy, or did not do all at once.
func (s *Shelf) Again() <-chan struct{} { return s.again }

// Has is what lies there.
func (s *Shelf) Has() (ids []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.has {
		ids = append(ids, id)
	}
	return ids
}

// Keep makes these files those that lie there, as far as it can at once. It duplicates what is
// new, and does not wait for the manager. table makes the file that describes all of them, and
// is called before Keep returns.
func (s *Shelf) Keep(files []Kept, table func() (fd int, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.busy:
		s.missed = true
	default:
		s.begin(files, table)
	}
}

// begin does a part of what is to be done.
func (s *Shelf) begin(files []Kept, table func() (int, error)) {
	e := errand{gone: s.drop(files)}
	more := false
	if fresh := s.missing(files); len(fresh) > 0 || s.told == nil {
		if wait := time.Until(s.after); wait > 0 {
			s.wake(wait)
		} else {
			more = s.add(&e, files, fresh, table)
		}
	}
	if len(e.gone)+len(e.fresh) == 0 && e.named == "" {
		return
	}
	s.busy = true
	s.work.Go(func() { s.run(e, more) })
}

// drop forgets what is not among the files.
func (s *Shelf) drop(files []Kept) (gone []uint64) {
	stay := make(map[uint64]bool, len(files))
	for _, f := range files {
		stay[f.ID] = true
	}
	for id := range s.has {
		if !stay[id] {
			gone = append(gone, id)
			delete(s.has, id)
		}
	}
	return gone
}

// missing are the files that do not lie there and find room.
func (s *Shelf) missing(files []Kept) (fresh []Kept) {
	room := maxNames
	for id := range s.has {
		room -= len(KeptName(id)) + 1
	}
	for _, f := range files {
		if s.has[f.ID] {
			continue
		}
		if room -= len(KeptName(f.ID)) + 1; room < 0 {
			break
		}
		fresh = append(fresh, f)
	}
	return fresh
}

// add has an errand store some of the files, after the table of all.
func (s *Shelf) add(e *errand, files, fresh []Kept, table func() (int, error)) (more bool) {
	if ids := idsOf(files); !slices.Equal(ids, s.told) {
		fd, err := table()
		if err != nil {
			s.failed(err)
			return false
		}
		s.told, s.letter = ids, 1-s.letter
		e.table, e.named, e.former = fd, tables[s.letter], tables[1-s.letter]
	}
	most := min(max(compared/(len(s.has)+1), 1), maxFiles)
	for _, f := range fresh[:min(len(fresh), most)] {
		fd, err := unix.FcntlInt(uintptr(f.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			s.failed(fmt.Errorf("keep a socket for the next process: %w", err))
			break
		}
		s.has[f.ID] = true
		e.fresh = append(e.fresh, Kept{f.ID, fd})
	}
	return len(e.fresh) > 0 && len(e.fresh) < len(fresh)
}

// compared is how many comparisons the manager makes in one go.
const compared = 100_000

func idsOf(files []Kept) []uint64 {
	ids := make([]uint64, len(files))
	for i, f := range files {
		ids[i] = f.ID
	}
	return ids
}

// errand is what the manager is told at once.
type errand struct {
	gone          []uint64
	table         int
	named, former string // "": there is no new table
	fresh         []Kept // duplicates
}

func (s *Shelf) run(e errand, more bool) {
	began := time.Now()
	err := e.run()
	took := time.Since(began)
	if err != nil {
		s.failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if err != nil { // all of it once more: what the manager has already it has once
		for _, f := range e.fresh {
			delete(s.has, f.ID)
		}
		for _, id := range e.gone {
			s.has[id] = true
		}
		s.told, s.missed, more = nil, false, true
		took = max(took, patience)
	}
	if e.named != "" || len(e.fresh) > 0 {
		s.after = time.Now().Add(4 * took)
	}
	switch {
	case s.missed:
		s.missed = false
		s.wake(0)
	case more:
		s.wake(4 * took)
	}
}

// run waits for the manager at the end, so that the time it takes is known. The first error
// ends it: the manager does not read, and each message would wait for it.
func (e *errand) run() error {
	defer e.close()
	for _, id := range e.gone {
		if err := Remove(KeptName(id)); err != nil {
			return err
		}
	}
	if e.named != "" {
		// A process before this one may have had either name.
		if err := cmp.Or(Remove(e.named), Store(e.named, e.table), Remove(e.former)); err != nil {
			return err
		}
	}
	for _, f := range e.fresh {
		if err := Store(KeptName(f.ID), f.FD); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return Barrier(ctx)
}

func (e *errand) close() {
	if e.named != "" {
		unix.Close(e.table)
	}
	for _, f := range e.fresh {
		unix.Close(f.FD)
	}
}

// wake has Keep called after a time.
func (s *Shelf) wake(after time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(after, func() {
		select {
		case s.again <- struct{}{}:
		default:
		}
	})
}

// Close ends what is under way; what lies there stays.
func (s *Shelf) Close() {
	s.mu.Lock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// Clear is Close that takes everything away.
func (s *Shelf) Clear() error {
	s.Close()
	e := errand{gone: s.Has()}
	s.mu.Lock()
	clear(s.has)
	s.mu.Unlock()
	return cmp.Or(Remove(tables[0]), Remove(tables[1]), e.run())
}
