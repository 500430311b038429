package dial

import (
	"testing"

	"github.com/usher-proxy/usher/proxier/observe"
)

// An endpoint that resets before it is seen to accept may be told by connect(2), or by the
// first read: who asks for another endpoint after an early reset means both.
func TestAResetSeenByConnectIsAnEarlyOne(t *testing.T) {
	for on, want := range map[Failures]bool{Refused: true, ResetEarly: true, Unreachable: false, Timeout: false, 0: false} {
		if got := on.include(observe.BackendResetEarly); got != want {
			t.Errorf("retry-on %d: %v", on, got)
		}
	}
	if ResetEarly.include(observe.BackendRefused) {
		t.Error("a refusal counts as a reset")
	}
}
