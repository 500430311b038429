package observe

import (
	"context"
	"sync/atomic"

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

// Run writes records until ctx is done, and then those that are still queued.
func (l *Log) Run(ctx context.Context) {
	for {
		select {
		case r := <-l.queue:
			l.write(r)
		case <-ctx.Done():
			l.flush()
			return
		}
	}
}

func (l *Log) flush() {
	for {
		select {
		case r := <-l.queue:
			l.write(r)
		default:
			return
		}
	}
}

// write is the one place that a record becomes a log line. What went wrong is
// a warning, so that --log-level=warning shows just that.
func (l *Log) write(r *Record) {
	level := logrus.InfoLevel
	if r.Trouble() {
		level = logrus.WarnLevel
	}
	if !l.logger.IsLevelEnabled(level) { // the fields cost more than to ask
		return
	}
	e := l.entry
	if e == nil {
		e = &logrus.Entry{Logger: l.logger, Data: r.Fields()}
	} else {
		e.Data[recordField] = r // logrus makes a copy, which it fills in
	}
	e.Log(level, r.Sentence())
}
