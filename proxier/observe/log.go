package observe

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// queueLength bounds the records that wait for the log's reader.
const queueLength = 16384

// Log writes records to a logger. Writing never makes a connection wait.
type Log struct {
	logger *logrus.Logger
	// entry carries a record to a Formatter; nil if the logger has another one.
	entry   *logrus.Entry
	queue   chan *Record
	flushes flushes
	dropped atomic.Uint64

	sampled   atomic.Uint64 // left out by their port's Share
	storms    storms
	windowEnd *time.Timer   // of storms, nil before the first window
	repeated  atomic.Uint64 // left out by storms
	written   atomic.Uint64
}

// NewLog returns a Log for Run to write out. The logger should have its formatter by
// now: with a Formatter of this package a line costs a fraction of what it costs with
// another one.
func NewLog(logger *logrus.Logger) *Log {
	l := &Log{logger: logger, queue: make(chan *Record, queueLength), flushes: make(flushes)}
	if logger == nil {
		return l
	}
	if _, ok := logger.Formatter.(*Formatter); ok {
		l.entry = &logrus.Entry{Logger: logger, Data: logrus.Fields{}}
	}
	return l
}

// LimitErrors has the log write at most n records of one reason of one Service port within
// ten seconds, if they are Trouble; 0: any number. The others are one line at the end of that
// time, which tells how many there were. It is to be called before the first record.
func (l *Log) LimitErrors(n int) { l.storms.limit = n }

// Sampled and Repeated count the records that were left out by the Share of a port, and by
// LimitErrors.
func (l *Log) Sampled() uint64  { return l.sampled.Load() }
func (l *Log) Repeated() uint64 { return l.repeated.Load() }

// Written counts the records that were written.
func (l *Log) Written() uint64 { return l.written.Load() }

// Lost counts the records that a Sink could not write.
func (l *Log) Lost() uint64 {
	if s := l.sink(); s != nil {
		return s.Lost()
	}
	return 0
}

// Name is that of the Sink that it writes to, log without one.
func (l *Log) Name() string {
	if s := l.sink(); s != nil {
		return s.name
	}
	return "log"
}

// sink is nil if the logger does not write to one.
func (l *Log) sink() *Sink {
	if l.logger == nil {
		return nil
	}
	s, _ := l.logger.Out.(*Sink)
	return s
}

// Dropped counts the records that found the queue full.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// add queues a record. When the queue is full the oldest one makes room: the
// newest are what somebody who looks now wants to see.
func (l *Log) add(r *Record) {
	for {
		select {
		case l.queue <- r:
			return
		default:
		}
		select {
		case <-l.queue:
			l.dropped.Add(1)
		default:
		}
	}
}

const (
	// pause is between two looks into the queue while there are records: to wake somebody
	// up for each of them costs its connection more than the line does.
	pause = 10 * time.Millisecond
	// together is how many lines are written at once at most.
	together = 64
)

// Run writes records until ctx is done, and then those that are still queued.
func (l *Log) Run(ctx context.Context) {
	for {
		select {
		case r := <-l.queue:
			l.flush(r)
		case done := <-l.flushes:
			l.flush()
			close(done)
			continue
		case <-l.windowEnds():
			l.storms.end(l.logger)
			continue
		case <-ctx.Done():
			l.flush()
			l.storms.end(l.logger)
			return
		}
		select {
		case <-time.After(pause):
		case done := <-l.flushes:
			l.flush()
			close(done)
		case <-ctx.Done():
		}
	}
}

// Flush waits until everything that was added before is written, but not for longer than
// patience, as when Run has ended.
func (l *Log) Flush(patience time.Duration) {
	l.flushes.wait(patience)
}

// windowEnds receives when that of storms is over.
func (l *Log) windowEnds() <-chan time.Time {
	if l.windowEnd == nil {
		return nil
	}
	return l.windowEnd.C
}

// wanted says whether a record is to be written.
func (l *Log) wanted(r *Record) bool {
	if !l.logger.IsLevelEnabled(r.level()) { // the fields cost more than to ask
		return false
	}
	allowed, opened := l.storms.allow(r)
	if opened {
		l.openWindow()
	}
	if !allowed {
		l.repeated.Add(1)
	}
	return allowed
}

func (l *Log) openWindow() {
	if l.windowEnd == nil {
		l.windowEnd = time.NewTimer(errorWindow)
		return
	}
	l.windowEnd.Reset(errorWindow)
}

// flush writes these records and those in the queue.
func (l *Log) flush(batch ...*Record) {
	for {
		select {
		case r := <-l.queue:
			if batch = append(batch, r); len(batch) < together {
				continue
			}
		default:
		}
		if len(batch) == 0 {
			return
		}
		l.writeAll(batch)
		batch = batch[:0]
	}
}

// writeAll is where records become lines.
func (l *Log) writeAll(batch []*Record) {
	batch = slices.DeleteFunc(batch, func(r *Record) bool { return !l.wanted(r) })
	if len(batch) == 0 {
		return
	}
	lost := l.Lost()
	if l.entry == nil || len(l.logger.Hooks) > 0 || l.logger.ReportCaller { // hooks see one after the other
		for _, r := range batch {
			l.write(r)
		}
	} else {
		l.entry.Data[recordField] = batch // logrus makes a copy, which it fills in
		l.entry.Log(batch[0].level())
	}
	lost = l.Lost() - lost
	l.written.Add(uint64(len(batch)) - min(lost, uint64(len(batch))))
}

func (l *Log) write(r *Record) {
	e := &logrus.Entry{Logger: l.logger, Time: r.EndTime()}
	if l.entry == nil {
		e.Data = r.Fields()
	} else {
		e.Data = logrus.Fields{recordField: r}
	}
	e.Log(r.level(), r.Sentence())
}

// level is that of the record's line. What went wrong is a warning, so that
// --log-level=warning shows just that.
func (r *Record) level() logrus.Level {
	if r.Trouble() {
		return logrus.WarnLevel
	}
	return logrus.InfoLevel
}
