package balancertest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

func TestRunFindsWhatIsBroken(t *testing.T) {
	for _, b := range broken {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if err := find(t, contract, b.found).run(b.policy); err == nil {
				t.Errorf("check %q did not notice", b.found)
			}
		})
	}
}

func TestRunNamesAPolicyThatBlocks(t *testing.T) {
	check := find(t, contract, "picks are endpoints of the set")
	err := check.within(100*time.Millisecond, blocking)
	if err == nil || !strings.Contains(err.Error(), "blocks") {
		t.Errorf("error %v does not say that the policy blocks", err)
	}
}

func TestRunIsContentWithAGoodPolicy(t *testing.T) {
	Run(t, stateless(good))
	Spreads(t, stateless(good))
}

func TestSpreadsFindsWhatDoesNotSpread(t *testing.T) {
	for _, b := range []struct {
		name   string
		policy func() balancer.Policy
		found  string
	}{
		{"always the first", stateless(first), "over all endpoints"},
		{"the neighbour takes over", rotationWithNeighbour, "a dead endpoint's part over the others"},
		{"every rotation begins at the first", rotationWithNeighbour, "the first pick of many nodes"},
		{"every Picker begins at the first", rotationWithNeighbour, "the first pick after each change"},
	} {
		t.Run(b.name, func(t *testing.T) {
			if err := find(t, spreads, b.found).run(b.policy); err == nil {
				t.Errorf("check %q did not notice", b.found)
			}
		})
	}
}

func TestWeighsIsContentWithAGoodPolicy(t *testing.T) {
	Weighs(t, byWeight(atLeast1))
}

func TestWeighsFindsWhatDoesNotWeigh(t *testing.T) {
	for _, b := range []struct {
		name   string
		policy func() balancer.Policy
		found  string
	}{
		{"all the same", stateless(good), "weights of connections that end"},
		{"the square of the weight", byWeight(func(w int) int { return atLeast1(w) * atLeast1(w) }), "weights of connections that end"},
		{"the heaviest of the idle", weighsActive, "weights of connections that end"},
		{"the same count for all", leastActive, "weights of connections that last"},
		{"retries without weights", retriesEvenly, "weights of the others after a dead endpoint"},
		{"the weights of the first Picker", firstWeights, "weights that change"},
		{"less than nothing", byWeight(func(w int) int { return max(w, -w, 1) }), "weights below 1 count as 1"},
		{"no weight above ten", byWeight(func(w int) int { return max(min(w, 10), 1) }), "a thousandfold weight"},
	} {
		t.Run(b.name, func(t *testing.T) {
			if err := find(t, weighs, b.found).run(b.policy); err == nil {
				t.Errorf("check %q did not notice", b.found)
			}
		})
	}
}

func find(t *testing.T, checks []check, name string) check {
	t.Helper()
	for _, c := range checks {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("no check is called %q", name)
	return check{}
}

func first(set []balancer.Endpoint, r balancer.Request) (balancer.Pick, error) {
	left := untried(set, r.Tried)
	if len(left) == 0 {
		return balancer.Pick{}, balancer.ErrNoEndpoints
	}
	return balancer.Pick{Endpoint: left[0]}, nil
}

// rotationWithNeighbour is a round robin that begins at the first endpoint, and
// gives each retry to the next in line without moving on.
func rotationWithNeighbour() balancer.Policy {
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		turn := -1
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			if len(r.Tried) == 0 {
				turn++
			}
			rotated := append(append([]balancer.Endpoint(nil), set[turn%len(set):]...), set[:turn%len(set)]...)
			return first(rotated, r)
		})
	})
}

// victim names the policy that a child process runs the suite on.
const victim = "BALANCERTEST_VICTIM"

// TestVictim is the body of the child process.
func TestVictim(t *testing.T) {
	switch os.Getenv(victim) {
	case "broken":
		Run(t, stateless(ignoresTried))
	case "herding":
		Spreads(t, stateless(first))
	case "weightless":
		Weighs(t, stateless(good))
	case "racing":
		Run(t, racing)
	}
}

// runVictim runs the suite on the victim in a process of its own, because a
// failed subtest cannot be taken back, and returns its output.
func runVictim(t *testing.T, name string) (output string, failed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.v")
	cmd.Env = append(os.Environ(), victim+"="+name)
	out, err := cmd.CombinedOutput()
	return string(out), err != nil
}

func TestAFindingFailsTheTest(t *testing.T) {
	for name, want := range map[string]string{
		"broken":     "--- FAIL: TestVictim/one_endpoint",
		"herding":    "--- FAIL: TestVictim/over_all_endpoints",
		"weightless": "--- FAIL: TestVictim/weights_of_connections_that_end",
	} {
		if out, failed := runVictim(t, name); !failed || !strings.Contains(out, want) {
			t.Errorf("%s: want exit status 1 and %q in:\n%s", name, want, out)
		}
	}
	if out, failed := runVictim(t, "none"); failed {
		t.Errorf("the child fails without a victim:\n%s", out)
	}
}

// racing counts its turns without synchronisation.
func racing() balancer.Policy {
	turn := 0
	return policyFunc(func(set []balancer.Endpoint) balancer.Picker {
		return pickFunc(func(r balancer.Request) (balancer.Pick, error) {
			turn++
			return good(set, r)
		})
	})
}
