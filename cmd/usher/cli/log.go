package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/proxier/observe"
)

// newLogger returns a logger of the given level (panic … trace) and format
// (text or json) that writes to out.
func newLogger(out io.Writer, level, format string) (*logrus.Logger, error) {
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, usageError{fmt.Errorf("--log-level=%s: want error, warning, info, debug or trace", level)}
	}
	log := logrus.New()
	log.SetOutput(out)
	log.SetLevel(parsed)
	switch format {
	case "text":
		log.SetFormatter(observe.NewTextFormatter())
	case "json":
		log.SetFormatter(observe.NewJSONFormatter())
	default:
		return nil, usageError{fmt.Errorf("--log-format=%s: want text or json", format)}
	}
	return log, nil
}

// logs are where usher run tells what it does.
type logs struct {
	// messages are its own, to stderr. Nobody who writes one waits for whoever reads them.
	messages *logrus.Logger
	// records are those of connections and sessions, one goroutine's, which may wait.
	records *logrus.Logger

	writer *observe.Writer
	file   *observe.File // nil without
}

// openLogs has records go to stderr as messages do, or to a file.
func openLogs(stderr io.Writer, s *seenOptions) (*logs, error) {
	stderr = &inTurn{to: stderr}
	l := &logs{writer: observe.NewWriter(stderr)}
	if err := l.open(stderr, s); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *logs) open(stderr io.Writer, s *seenOptions) (err error) {
	if l.messages, err = newLogger(l.writer, s.logLevel, s.logFormat); err != nil {
		return err
	}
	if s.logFile == "" {
		l.records, err = newLogger(observe.NewSink("stderr", stderr, nil), s.logLevel, s.logFormat)
		return err
	}
	if l.file, err = observe.OpenFile(s.logFile, int64(s.logFileSize)<<20, s.logFiles); err != nil {
		return fmt.Errorf("--log-file=%s: %w", s.logFile, err)
	}
	sink := observe.NewSink("file", l.file, func(err error, lost uint64) {
		l.messages.WithError(err).WithField("lost", lost).Warn("cannot write records to --log-file as asked for; connections go on")
	})
	l.records, err = newLogger(sink, s.logLevel, "json")
	return err
}

// inTurn is a writer that several may use at once. A pipe takes more than 4096 bytes at a
// time in pieces, between which others come (pipe(7)).
type inTurn struct {
	mu sync.Mutex
	to io.Writer
}

func (w *inTurn) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

// lastMessages is how long whoever reads the log may take for what is left at the end.
const lastMessages = 2 * time.Second

func (l *logs) close() {
	l.writer.Close(lastMessages)
	if l.file != nil {
		l.file.Close()
	}
}

// measure counts the messages that nobody has read.
func (l *logs) measure(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "usher_log_messages_dropped_total",
		Help: "Messages of usher itself, not records, dropped because nobody read them fast enough.",
	}, func() float64 { return float64(l.writer.Dropped()) }))
}
