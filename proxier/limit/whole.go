package limit

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Room is how many connections fit into the process.
type Room struct {
	Connections int // that are admitted
	Waiting     int // and beside them, that wait for their turn
}

// Whole bounds the connections of all Gates together. It is safe for concurrent use.
type Whole struct {
	room    func() Room
	n       atomic.Int64
	waiting atomic.Int64

	mu    sync.Mutex
	gates []*Gate      // in front of which somebody waits for nothing but room here
	lined atomic.Int64 // how many these are, for those without the lock
}

// NewWhole returns what all Gates of a process share. room is asked whenever a
// connection is to be admitted, by several goroutines at a time.
func NewWhole(room func() Room) *Whole { return &Whole{room: room} }

// Len is how many connections are admitted now.
func (w *Whole) Len() int { return int(w.n.Load()) }

// Waiting is how many wait now.
func (w *Whole) Waiting() int { return int(w.waiting.Load()) }

// Changed tells that there may be more room than before. Without it that is noticed
// when the next connection comes or goes.
func (w *Whole) Changed() { w.serve() }

// take takes the place of one connection. It does so for nobody while others wait in
// line: they get theirs by serve.
func (w *Whole) take() bool { return w.lined.Load() == 0 && w.add() }

func (w *Whole) add() bool {
	most := int64(w.room().Connections)
	for {
		n := w.n.Load()
		if n >= most {
			return false
		}
		if w.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (w *Whole) leave() {
	w.n.Add(-1)
	w.serve()
}

// line makes a Gate wait in line for a place. Whoever calls it has to call serve
// without the lock of the Gate: a place may have become free before.
func (w *Whole) line(g *Gate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.gates, g) {
		w.gates = append(w.gates, g)
		w.lined.Add(1)
	}
}

// first takes the first Gate out of the line, nil if there is none.
func (w *Whole) first() *Gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.gates) == 0 {
		return nil
	}
	g := w.gates[0]
	w.gates = slices.Delete(w.gates, 0, 1)
	w.lined.Add(-1)
	return g
}

// serve gives the places that are free to the Gates in line. It takes their locks.
func (w *Whole) serve() {
	for w.lined.Load() > 0 && w.add() {
		if g := w.first(); g == nil || !g.use() {
			w.n.Add(-1) // its connections have left meanwhile
		}
	}
}

// wait counts one that waits, false if there are too many.
func (w *Whole) wait() bool {
	if w.waiting.Add(1) > int64(w.room().Waiting) {
		w.waiting.Add(-1)
		return false
	}
	return true
}
