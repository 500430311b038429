package balancertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// patience is how long one check may take before the policy is said to block.
// The slowest takes milliseconds.
const patience = 30 * time.Second

// check is one promise of the contract. It returns how it was broken.
type check struct {
	name string
	run  func(newPolicy func() balancer.Policy) error
}

// contract is what every policy promises.
var contract = []check{
	{"an empty set has no endpoint", checkEmpty},
	{"one endpoint", checkSingle},
	{"picks are endpoints of the set", checkInside},
	{"each endpoint is a retry target once", checkExhaust},
	{"foreign addresses in Tried are harmless", checkForeignTried},
	{"arguments are left alone", checkArguments},
	{"weights of any value", checkWeights},
	{"an old Picker keeps its set", checkSnapshot},
	{"Done at any time from any goroutine", checkDone},
	{"Answered at any time from any goroutine, or never", checkAnswered},
	{"a Chooser is content with any choice", checkChooser},
	{"concurrent picks during changes", checkConcurrent},
	{"what is remembered of endpoints has a bound", checkBounded},
}

// Run checks a policy against the whole contract of balancer.Policy, each
// promise in a subtest. newPolicy must return a new value at every call.
// Whether picks are spread, and by weight, is not part of it: see Spreads and
// Weighs.
func Run(t *testing.T, newPolicy func() balancer.Policy) {
	t.Helper()
	runAll(t, contract, newPolicy)
}

func runAll(t *testing.T, checks []check, newPolicy func() balancer.Policy) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			if err := c.within(patience, newPolicy); err != nil {
				t.Error(err)
			}
		})
	}
}

// within runs the check and gives up on a policy that blocks, because a hanging
// test names nobody.
func (c check) within(limit time.Duration, newPolicy func() balancer.Policy) error {
	result := make(chan error, 1)
	go func() { result <- c.run(newPolicy) }()
	select {
	case err := <-result:
		return err
	case <-time.After(limit):
		return fmt.Errorf("no end after %v: Picker, Pick, Answered or Done blocks", limit)
	}
}
