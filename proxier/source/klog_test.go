package source

import (
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
)

func TestKlogLevels(t *testing.T) {
	log := newLogbook(t)
	logger := logr.New(&klogSink{log: log.WithField("component", "client-go"), quiet: newQuiet(time.Minute)})
	log.SetLevel(logrus.TraceLevel)
	for range 3 {
		logger.Error(errors.New("no"), "error")
		logger.Info("v0")
	}
	logger.V(2).Info("v2")
	logger.V(5).Info("v5")
	logger.V(8).Info("v8: a whole request")
	logger.WithName("x").WithValues("a", 1, "odd").Info("named", "b", struct{}{})
	for text, want := range map[string]int{
		"warning error": 1, "info v0": 1, "debug v2": 1, "trace v5": 1, "v8": 0, "info named": 1,
	} {
		if got := log.count(text); got != want {
			t.Errorf("%q: %d times, want %d", text, got, want)
		}
	}
	log.SetLevel(logrus.InfoLevel)
	if logger.V(2).Enabled() || !logger.Enabled() {
		t.Error("the level of the logger does not count")
	}
}

func TestQuiet(t *testing.T) {
	now := time.Unix(0, 0)
	q := newQuiet(time.Minute)
	q.now = func() time.Time { return now }
	if !q.passes("a") || q.passes("a") || !q.passes("b") {
		t.Error("a key does not pass once")
	}
	now = now.Add(time.Minute)
	if !q.passes("a") || q.passes("a") {
		t.Error("a key does not pass again")
	}
	for i := range 10 * quietKeys {
		q.passes(string(rune(i)))
	}
	if len(q.said) > quietKeys {
		t.Errorf("remembers %d keys", len(q.said))
	}
}
