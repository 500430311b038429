package source

import (
	"context"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// patience is how long a test waits for something that must come.
const patience = 20 * time.Second

// logbook is a logger that remembers its lines as "level message".
type logbook struct {
	*logrus.Logger
	mu    sync.Mutex
	lines []string
}

func newLogbook(t *testing.T) *logbook {
	l := &logbook{Logger: logrus.New()}
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.DebugLevel)
	l.AddHook(l)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", strings.Join(l.all(), "\n"))
		}
	})
	return l
}

func (l *logbook) Levels() []logrus.Level { return logrus.AllLevels }

func (l *logbook) Fire(e *logrus.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, e.Level.String()+" "+e.Message)
	return nil
}

func (l *logbook) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// count returns how many lines have all of the given texts.
func (l *logbook) count(texts ...string) int {
	n := 0
	for _, line := range l.all() {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// run runs a source until the test ends or the returned function is called,
// and then sees that it leaves no goroutine behind.
func run(t *testing.T, s Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not return")
		}
		within(t, "no goroutine is left", func() bool { return len(leftover()) == 0 })
	}
	t.Cleanup(stop)
	return stop
}

// leftover returns the goroutines that a source may have started.
func leftover() []string {
	stacks := make([]byte, 1<<20)
	all := strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n")
	return slices.DeleteFunc(all, func(stack string) bool {
		for _, part := range []string{"k8s.io/client-go", "k8s.io/apimachinery", "source.(*API)", "source.(*Manifests)", "source.(*events)", "fsnotify", "http.(*persistConn)"} {
			if strings.Contains(stack, part) {
				return false
			}
		}
		return true
	})
}

// until waits for a state of s that is as wanted, woken by Changed.
func until(t *testing.T, s Source, what string, wanted func(Objects) bool) Objects {
	t.Helper()
	deadline := time.After(patience)
	for {
		if objects, complete := s.Objects(); complete && wanted(objects) {
			return objects
		}
		select {
		case <-s.Changed():
		case <-deadline:
			objects, complete := s.Objects()
			t.Fatalf("%s: not within %v; complete=%v, has %v", what, patience, complete, names(objects))
		}
	}
}

// within polls for something that no channel tells of.
func within(t *testing.T, what string, wanted func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !wanted(); {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%s: not within %v\n%s", what, patience, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// names returns the namespace/name of everything, sorted.
func names(o Objects) []string {
	var all []string
	for _, s := range o.Services {
		all = append(all, s.Namespace+"/"+s.Name)
	}
	for _, s := range o.Slices {
		all = append(all, "slice "+s.Namespace+"/"+s.Name)
	}
	if o.Node != nil {
		all = append(all, "node "+o.Node.Name)
	}
	slices.Sort(all)
	return all
}

// has returns a predicate for until.
func has(want ...string) func(Objects) bool {
	slices.Sort(want)
	return func(o Objects) bool { return slices.Equal(names(o), want) }
}

func atoi(t *testing.T, text string) int32 {
	t.Helper()
	number, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(number)
}
