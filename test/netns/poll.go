package netns

import (
	"testing"
	"time"
)

const (
	pollInterval = time.Millisecond // at first, and
	pollSlowest  = 50 * time.Millisecond
	pollPatience = 20 * time.Second // far more than a small step takes on a busy machine
)

// Eventually calls check until it returns nil, which it must within 20 seconds. what says
// what is awaited. check may end the test earlier.
func Eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	EventuallyWithin(t, pollPatience, what, check)
}

// EventuallyWithin is [Eventually] for what may take longer, or must not take as long.
func EventuallyWithin(t testing.TB, patience time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := pollInterval; ; pause = min(2*pause, pollSlowest) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not after %v: %v", what, patience, err)
		}
		time.Sleep(pause)
	}
}
