package dial

import (
	"sync"
	"time"
)

// memory is for how long a Budget may be saved up.
const memory = 10 * time.Second

// The most that a Budget may say.
const (
	maxShare     = 10
	maxPerSecond = 1_000_000
)

// Tokens are the retry budget of one Service port. Each connection puts
// Budget.Share of a token in, and Budget.PerSecond flow in by themselves; every
// attempt but the first of a connection takes one out. There are never more than
// come in within 10 seconds by themselves and have been put in within the last 10
// to 20, or one. So while an outage lasts there are 1 + Share attempts for a
// connection, and PerSecond more a second, whatever Retry.Attempts says.
//
// With the zero Budget no attempt follows on a failure. A nil *Tokens never runs
// out. Safe for concurrent use; the lock is held for some nanoseconds, once for a
// connection and once for every further attempt.
type Tokens struct {
	mu      sync.Mutex
	budget  Budget
	balance float64
	flowed  time.Time // until when PerSecond has been added
	// What connections have put in, in the period that began then and in the one
	// before.
	period        time.Time
	current, past float64
}

// NewTokens returns a budget with as many tokens as flow in within 10 seconds, or
// one.
func NewTokens(b Budget) *Tokens {
	now := time.Now()
	t := &Tokens{flowed: now, period: now}
	t.SetBudget(b)
	t.balance = t.most()
	return t
}

// SetBudget changes what comes in from now on. Share is taken as 0 to 10,
// PerSecond as 0 to a million.
func (t *Tokens) SetBudget(b Budget) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flow()
	t.budget = Budget{Share: within(b.Share, maxShare), PerSecond: within(b.PerSecond, maxPerSecond)}
	t.balance = min(t.balance, t.most())
}

// within also makes something of what is not a number.
func within(x, most float64) float64 {
	if !(x > 0) {
		return 0
	}
	return min(x, most)
}

// deposit is a connection's share.
func (t *Tokens) deposit() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flow()
	t.current += t.budget.Share
	t.balance += t.budget.Share
}

// take returns false if there is no token.
func (t *Tokens) take() bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flow()
	if t.balance < 1 {
		return false
	}
	t.balance--
	return true
}

// flow adds what has come in by itself until now, and forgets what is too old.
func (t *Tokens) flow() {
	now := time.Now()
	t.balance += t.budget.PerSecond * now.Sub(t.flowed).Seconds()
	t.flowed = now
	switch age := now.Sub(t.period); {
	case age >= 2*memory:
		t.current, t.past, t.period = 0, 0, now
	case age >= memory:
		t.current, t.past, t.period = 0, t.current, t.period.Add(memory)
	}
	t.balance = min(t.balance, t.most())
}

// most is how many there can be. One can always be saved up, however slowly they
// come in.
func (t *Tokens) most() float64 {
	if t.budget == (Budget{}) {
		return 0
	}
	return max(1, t.budget.PerSecond*memory.Seconds()+t.current+t.past)
}
