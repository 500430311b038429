package observe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// written is a Log whose records go to out, as JSON; Run is for the test to call.
func written(out io.Writer) *Log {
	logger := logrus.New()
	logger.SetOutput(out)
	logger.SetFormatter(NewJSONFormatter())
	return NewLog(logger)
}

// running runs a Log; stop waits for what is queued.
func running(log *Log) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); log.Run(ctx) }()
	return func() { cancel(); <-ended }
}

// storm has so many connections begin and end, and returns when all have.
func storm(o *Observer, m metered, n int, reason Reason) {
	port := m.Port("shop", "cart", "", "tcp")
	for range n {
		r := o.Open(port)
		r.End()
		r.Client = netip.MustParseAddrPort("10.0.0.9:5000")
		r.Reason = reason
		o.Closed(port, r)
	}
}

// watched are an Observer and what it tells, with a small ring.
func watched(log *Log) (*Observer, metered, *Ring) {
	ring := NewRing(100)
	m := newMetrics(log, ring)
	return New("node-a", log, m.Metrics, ring, nil), m, ring
}

// The reader of a pipe has stopped, and connections end on and on: they never wait, the
// oldest records are lost and counted, and the newest come when it reads again.
func TestReaderOfThePipeHasStopped(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log := written(NewSink("stderr", write, nil))
	o, m, ring := watched(log)
	stop := running(log)
	ring.Follow(Filter{}, 0) // never reads either
	const n = 3 * queueLength
	storm(o, m, n, ClientReset) // a pipe has room for a hundred lines
	if log.Dropped() == 0 || log.Dropped() > n-queueLength {
		t.Errorf("%d of %d records dropped", log.Dropped(), n)
	}
	lines := make(chan int)
	go func() {
		all, _ := io.ReadAll(read)
		lines <- bytes.Count(all, newline)
	}()
	stop()
	write.Close()
	if got := <-lines; uint64(got) != n-log.Dropped() || uint64(got) != log.Written() {
		t.Errorf("%d lines, %d written, %d of %d dropped", got, log.Written(), log.Dropped(), n)
	}
	if got := series(t, m.Metrics, "tcp")["usher_connection_closes_total client_reset"]; got != n {
		t.Errorf("metrics have counted %v", got)
	}
}

// Nobody has the other end of the pipe any more: lines are lost and counted, one warning
// a minute says so, and nothing else happens.
func TestPipeIsClosed(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	checkFailing(t, write, unix.EPIPE)
}

// The disk is full.
func TestDeviceIsFull(t *testing.T) {
	file, err := OpenFile("/dev/full", FileSize, Files)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	checkFailing(t, file, unix.ENOSPC)
}

func checkFailing(t *testing.T, out io.Writer, want error) {
	t.Helper()
	var told []uint64
	log := written(NewSink("file", out, func(err error, lost uint64) {
		if !errors.Is(err, want) {
			t.Errorf("told %v, want %v", err, want)
		}
		told = append(told, lost)
	}))
	o, m, _ := watched(log)
	storm(o, m, 1000, OK)
	running(log)()
	if log.Lost() != 1000 || log.Written() != 0 || log.Dropped() != 0 {
		t.Errorf("lost %d, written %d, dropped %d", log.Lost(), log.Written(), log.Dropped())
	}
	if len(told) != 1 || told[0] == 0 {
		t.Errorf("told %v", told)
	}
	got := gathered(t, m)
	for name, want := range map[string]float64{
		"usher_log_dropped_total write file": 1000, "usher_log_dropped_total queue file": 0,
		"usher_log_records_total file": 0, "usher_log_dropped_total follower ring": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

// What was lost between two warnings is in the second one.
func TestOneWarningAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []uint64
		sink := NewSink("file", failing{}, func(_ error, lost uint64) { told = append(told, lost) })
		for range 130 {
			sink.Write([]byte("a\nb\n"))
			time.Sleep(time.Second)
		}
		if len(told) != 3 || told[0] != 1 || told[1] != 60 || told[2] != 60 || sink.Lost() != 130 {
			t.Errorf("told %v, lost %d", told, sink.Lost())
		}
	})
}

// failing has room for one line at a time.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 2, unix.ENOSPC }

// Messages are for nobody to wait for either, not even the last ones.
func TestReaderOfMessagesHasStopped(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(write)
	message := []byte(strings.Repeat("x", 1000) + "\n")
	const n = 5000
	for range n {
		if got, err := w.Write(message); got != len(message) || err != nil {
			t.Fatal(got, err)
		}
	}
	if d := w.Dropped(); d == 0 || d > n-messagesQueued {
		t.Errorf("%d of %d messages dropped", d, n)
	}
	w.Close(time.Millisecond) // returns all the same
	go io.Copy(io.Discard, read)
	<-w.ended
	write.Close()
	if w.Write(message); len(w.queue) > 1 {
		t.Errorf("%d messages are left", len(w.queue))
	}
}

func TestWriterWritesAllInOrder(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	var want strings.Builder
	message := []byte("0\n")
	for i := range 26 {
		message[0] = 'a' + byte(i) // its memory is used again
		want.Write(message)
		w.Write(message)
	}
	w.Close(time.Hour)
	if out.String() != want.String() || w.Dropped() != 0 {
		t.Errorf("%q, %d dropped", out.String(), w.Dropped())
	}
}

// metered are metrics with their registry.
type metered struct {
	*Metrics
	registry *prometheus.Registry
}

func newMetrics(log *Log, ring *Ring) metered {
	registry := prometheus.NewPedanticRegistry()
	return metered{NewMetrics(registry, log, ring), registry}
}

// gathered are the values of all metrics, by name and labels.
func gathered(t *testing.T, m metered) map[string]float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, one := range family.Metric {
			name := family.GetName()
			for _, label := range one.Label {
				name += " " + label.GetValue()
			}
			values[name] = one.GetCounter().GetValue() + one.GetGauge().GetValue() + float64(one.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// gated is an io.Writer that waits at a gate.
type gated struct {
	mu   sync.Mutex
	open chan struct{}
	out  bytes.Buffer
}

// take is what has been written since it was called last.
func (g *gated) take() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.out.Reset()
	return g.out.String()
}

func (g *gated) Write(b []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.Write(b)
}

// Of what went well one in ten is logged, of what did not all is, and so is what went well
// only at the second attempt. Metrics and ring have all.
func TestSampling(t *testing.T) {
	var out bytes.Buffer
	log := written(&out)
	ring := NewRing(1000)
	m := newMetrics(log, ring)
	m.Port("shop", "cart", "", "tcp").SetShare(10)
	o := New("node-a", log, m.Metrics, ring, nil)
	storm(o, m, 100, OK)
	storm(o, m, 7, ClientReset)
	port := m.Port("shop", "cart", "", "tcp")
	for range 3 {
		r := o.Open(port)
		r.End()
		r.Reason, r.Attempts = OK, []Attempt{{Result: BackendRefused}, {Result: OK}}
		o.Closed(port, r)
	}
	running(log)()
	if n := strings.Count(out.String(), "\n"); n != 10+7+3 || log.Sampled() != 90 || log.Written() != 20 {
		t.Errorf("%d lines, %d left out, %d written", n, log.Sampled(), log.Written())
	}
	if n := series(t, m.Metrics, "tcp")["usher_connections_total"]; n != 110 || ring.added() != 110 {
		t.Errorf("metrics have %v, the ring %d", n, ring.added())
	}
	if n := gathered(t, m)["usher_log_omitted_total sampled"]; n != 90 {
		t.Errorf("metrics count %v as left out", n)
	}
}

// What goes well may not be logged at all, nor anything of a Service.
func TestShares(t *testing.T) {
	for share, want := range map[Share]int{All: 107, 1: 107, 2: 57, Errors: 7, None: 0} {
		var out bytes.Buffer
		log := written(&out)
		m := newMetrics(log, nil)
		o := New("node-a", log, m.Metrics, nil, nil)
		m.Port("shop", "cart", "", "tcp").SetShare(share)
		storm(o, m, 100, OK)
		storm(o, m, 7, ClientReset)
		running(log)()
		if n := strings.Count(out.String(), "\n"); n != want || int(log.Sampled()) != 107-want {
			t.Errorf("%d: %d lines, %d left out, want %d lines", share, n, log.Sampled(), want)
		}
	}
}

// A storm of one error is a few lines and a summary, and does not hide another error, nor
// that of another Service. After ten seconds it is told again.
func TestStormOfOneError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &gated{open: make(chan struct{})}
		close(out.open)
		log := written(out)
		log.LimitErrors(5)
		m := newMetrics(log, nil)
		o := New("node-a", log, m.Metrics, nil, nil)
		stop := running(log)
		var lines string
		count := func(what string) int { return strings.Count(lines, what) }

		storm(o, m, 1000, RetriesExhausted)
		storm(o, m, 3, ClientReset)
		storm(o, m, 50, OK)
		other := m.Port("shop", "till", "", "tcp")
		r := o.Open(other)
		r.End()
		r.Reason = RetriesExhausted
		o.Closed(other, r)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		lines = out.take()
		if n := count("\n"); n != 5+3+50+1 || count(`"service":"till"`) != 1 {
			t.Errorf("%d lines", n)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		lines = out.take()
		if n := count(`"msg":"shop/cart: 995 more like this in the last 10s: no endpoint could be connected to"`); n != 1 {
			t.Errorf("%d summaries:\n%s", n, tail(lines))
		}
		if n := count("more like this"); n != 1 || !strings.Contains(tail(lines), `"omitted":995`) {
			t.Errorf("%d summaries in all:\n%s", n, tail(lines))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if lines = out.take(); lines != "" {
			t.Errorf("told without anything: %s", lines)
		}
		storm(o, m, 7, RetriesExhausted)
		stop() // tells the rest
		lines = out.take()
		if n := count("\n"); n != 6 || count(": 2 more like this") != 1 {
			t.Errorf("%d lines:\n%s", n, lines)
		}
		if log.Repeated() != 997 || log.Written() != 59+5 {
			t.Errorf("%d left out, %d written", log.Repeated(), log.Written())
		}
	})
}

func tail(log string) string { return log[max(0, len(log)-1000):] }

// The number of troubles that are told apart is bounded.
func TestManyTroublesInAWindow(t *testing.T) {
	var out bytes.Buffer
	log := written(&out)
	s := storms{limit: 1}
	for i := range troubles + 10 {
		r := ended(uint64(i))
		r.ServicePort = &ServicePort{Namespace: "shop", Service: strings.Repeat("x", i)}
		r.Reason = NoEndpoints
		if allowed, _ := s.allow(r); allowed != (i < troubles) {
			t.Fatalf("trouble %d: %t", i, allowed)
		}
	}
	if s.end(log.logger); !strings.Contains(out.String(), "10 more records of other Service ports") || len(s.seen) > 0 {
		t.Error(out.String())
	}
}

// The log's goroutine may be stuck for as long as it likes: connections are not.
func TestClosedNeverWaits(t *testing.T) {
	out := &gated{open: make(chan struct{})}
	log := written(NewSink("stderr", out, nil))
	o, m, ring := watched(log)
	stop := running(log)
	follower := ring.Follow(Filter{}, 0)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { storm(o, m, queueLength, ClientReset) })
	}
	all.Wait() // while nothing can be written
	close(out.open)
	stop()
	if n := log.Written() + log.Dropped(); n != 4*queueLength || log.Dropped() < 2*queueLength {
		t.Errorf("%d written, %d dropped", log.Written(), log.Dropped())
	}
	if _, lost, _ := follower.Next(t.Context()); lost != 4*queueLength-100 || gathered(t, m)["usher_log_dropped_total follower ring"] != float64(lost) {
		t.Errorf("the follower has lost %d", lost)
	}
}
