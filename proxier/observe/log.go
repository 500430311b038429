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
	dropped atomic.Uint64
}

// NewLog returns a Log for Run to write out. The logger should have its formatter by
// now: with a Formatter of this package a line costs a fraction of what it costs with
// another one.
func NewLog(logger *logrus.Logger) *Log {
	l := &Log{logger: logger, queue: make(chan *Record, queueLength)}
	if logger == nil {
		return l
	}
	if _, ok := logger.Formatter.(*Formatter); ok {
		l.entry = &logrus.Entry{Logger: logger, Data: logrus.Fields{}}
	}
	return l
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
	pause = 2 * time.Millisecond
	// together is how many lines are written at once at most.
	together = 64
)

// Run writes records until ctx is done, and then those that are still queued.
func (l *Log) Run(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case r := <-l.queue:
			l.flush(r)
			again.Reset(pause)
		case <-ctx.Done():
			l.flush()
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
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

// writeAll is where records become lines. Hooks see one after the other.
func (l *Log) writeAll(batch []*Record) {
	if l.entry == nil || len(l.logger.Hooks) > 0 || l.logger.ReportCaller {
		for _, r := range batch {
			l.write(r)
		}
		return
	}
	batch = slices.DeleteFunc(batch, func(r *Record) bool { return !l.logger.IsLevelEnabled(r.level()) })
	if len(batch) > 0 {
		l.entry.Data[recordField] = batch // logrus makes a copy, which it fills in
		l.entry.Log(batch[0].level())
	}
}

func (l *Log) write(r *Record) {
	if !l.logger.IsLevelEnabled(r.level()) { // the fields cost more than to ask
		return
	}
	e := l.entry
	if e == nil {
		e = &logrus.Entry{Logger: l.logger, Data: r.Fields()}
	} else {
		e.Data[recordField] = r
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
