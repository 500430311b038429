package proxier

import (
	"sync"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/relay"
)

// answerTime is how long an endpoint has taken to be connected to and to answer; 0 if it has
// not answered.
func answerTime(connect time.Duration, s *relay.State) time.Duration {
	if s.Backend.First.IsZero() {
		return 0
	}
	asked := s.Began
	if s.Client.First.After(asked) {
		asked = s.Client.First
	}
	return connect + max(0, s.Backend.First.Sub(asked))
}

// latePick is the pick of an endpoint that a connection has already: the policy counts it as
// soon as there is a picker.
type latePick struct {
	endpoint balancer.Endpoint
	set      Set

	mu      sync.Mutex
	answer  time.Duration // 0: it has not answered yet
	made    balancer.Pick
	outcome *balancer.Outcome // it has ended before
}

func (l *latePick) answered(took time.Duration) {
	l.mu.Lock()
	l.answer = took
	tell := l.made.Answered
	l.mu.Unlock()
	if tell != nil {
		tell(took)
	}
}

func (l *latePick) end(o balancer.Outcome) {
	l.mu.Lock()
	l.outcome = &o
	done := l.made.Done
	l.mu.Unlock()
	if done != nil {
		done(o)
	}
}

// make asks the policy.
func (l *latePick) make(of *listener) {
	chooser, ok := (*of.current.Load().pickers.of(l.set)).(balancer.Chooser)
	if !ok {
		return
	}
	pick := chooser.Choose(l.endpoint)
	l.mu.Lock()
	l.made = pick
	answer, outcome := l.answer, l.outcome
	l.mu.Unlock()
	if answer > 0 && pick.Answered != nil {
		pick.Answered(answer)
	}
	if outcome != nil && pick.Done != nil {
		pick.Done(*outcome)
	}
}
