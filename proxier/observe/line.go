package observe

import (
	"sync"
	"sync/atomic"
	"time"
)

// AppendJSON appends the line of a record that has ended, as the JSON log has it: one
// object, with a line break. While somebody follows (Observer.Follow) most are made once.
func AppendJSON(b []byte, r *Record) []byte {
	if made := &r.by.lines; made.followers.Load() > 0 {
		return made.append(b, r)
	}
	return appendJSON(b, r)
}

// EndTime is when a record that has ended did.
func (r *Record) EndTime() time.Time { return r.Start.Add(r.Duration) }

// Follow says that there is somebody more who wants the lines of all records, as the log may,
// until done.
func (o *Observer) Follow() (done func()) {
	o.lines.followers.Add(1)
	return sync.OnceFunc(func() { o.lines.followers.Add(-1) })
}

// lines are those of some newest records, in about 1 MB, for several who want them at about
// the same time.
type lines struct {
	followers atomic.Int32
	slots     [1024]line
}

// line keeps its room for the next record's: lines would be most of what a busy node throws
// away otherwise.
type line struct {
	mu   sync.Mutex
	of   *Record
	text []byte
}

func (l *lines) append(b []byte, r *Record) []byte {
	made := &l.slots[r.number%uint64(len(l.slots))]
	made.mu.Lock()
	defer made.mu.Unlock()
	if made.of != r {
		made.of, made.text = r, appendJSON(made.text[:0], r)
	}
	return append(b, made.text...)
}
