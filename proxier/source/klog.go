package source

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
)

// routeKlog sends the log lines of client-go, which it writes through the
// process-wide klog, to log. The first API source of a process decides:
// setting klog's logger while client-go runs is a data race.
func routeKlog(log logrus.FieldLogger) {
	klogOnce.Do(func() {
		sink := &klogSink{log: log.WithField("component", "client-go"), quiet: newQuiet(time.Minute)}
		klog.SetLoggerWithOptions(logr.New(sink), klog.ContextualLogger(true))
	})
}

var klogOnce sync.Once

// klogSink writes to logrus what client-go logs. What client-go calls an error
// is a failed attempt that it goes on to retry, so it is a warning here; its
// verbosity 0 is information, up to 3 debug, up to 6 trace. From 7 on it would
// print whole requests: never. A message that repeats is written once a minute.
type klogSink struct {
	log   logrus.FieldLogger
	quiet *quiet
}

const klogMostVerbose = 6

func (s *klogSink) Init(logr.RuntimeInfo) {}

func (s *klogSink) Enabled(verbosity int) bool {
	return verbosity <= klogMostVerbose && levelOf(s.log) >= klogLevel(verbosity)
}

func klogLevel(verbosity int) logrus.Level {
	switch {
	case verbosity <= 0:
		return logrus.InfoLevel
	case verbosity <= 3:
		return logrus.DebugLevel
	}
	return logrus.TraceLevel
}

func (s *klogSink) Info(verbosity int, msg string, pairs ...any) {
	s.write(klogLevel(verbosity), msg, pairs)
}

func (s *klogSink) Error(err error, msg string, pairs ...any) {
	if err != nil {
		pairs = append(pairs, "err", err)
	}
	s.write(logrus.WarnLevel, msg, pairs)
}

func (s *klogSink) write(level logrus.Level, msg string, pairs []any) {
	msg = strings.TrimSpace(msg)
	if level <= logrus.InfoLevel && !s.quiet.passes(msg) {
		return
	}
	s.log.WithFields(klogFields(pairs)).Log(level, msg)
}

func (s *klogSink) WithName(name string) logr.LogSink {
	return &klogSink{log: s.log.WithField("logger", name), quiet: s.quiet}
}

func (s *klogSink) WithValues(pairs ...any) logr.LogSink {
	return &klogSink{log: s.log.WithFields(klogFields(pairs)), quiet: s.quiet}
}

// klogFields turns key, value, key, value ... into fields. Values are printed
// here, so that no formatter meets a type that it cannot write.
func klogFields(pairs []any) logrus.Fields {
	fields := make(logrus.Fields, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if key := fmt.Sprint(pairs[i]); key != "reflector" { // a place in client-go's source
			fields[key] = fmt.Sprint(pairs[i+1])
		}
	}
	return fields
}

// levelOf returns the level of the logger behind log.
func levelOf(log logrus.FieldLogger) logrus.Level {
	switch l := log.(type) {
	case *logrus.Logger:
		return l.GetLevel()
	case *logrus.Entry:
		return l.Logger.GetLevel()
	}
	return logrus.InfoLevel
}
