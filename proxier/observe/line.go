package observe

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// AppendJSON appends the line of a record that has ended, as the JSON log prints it but for
// ts: that is when the record ended.
func AppendJSON(b []byte, r *Record) []byte {
	return jsonLine(b, &logrus.Entry{Time: r.EndTime(), Level: r.level(), Message: r.Sentence()}, r)
}

// EndTime is when a record that has ended did.
func (r *Record) EndTime() time.Time { return r.Start.Add(r.Duration) }

// Lines is AppendJSON for several who want the lines of the same records at about the same
// time: most are made once. It holds some newest ones, in about 1 MB. The zero value is
// ready, and it is safe for concurrent use.
type Lines struct {
	slots [1024]line
}

// line keeps its room for the next record's: lines would be most of what a busy node throws
// away otherwise.
type line struct {
	mu   sync.Mutex
	of   *Record
	text []byte
}

// Append appends the line of a record.
func (l *Lines) Append(b []byte, r *Record) []byte {
	made := &l.slots[r.number%uint64(len(l.slots))]
	made.mu.Lock()
	defer made.mu.Unlock()
	if made.of != r {
		made.of, made.text = r, AppendJSON(made.text[:0], r)
	}
	return append(b, made.text...)
}
