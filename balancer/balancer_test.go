package balancer_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/balancer/balancertest"
)

func newPolicy(t testing.TB, name string) balancer.Policy {
	t.Helper()
	p, err := balancer.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// spreading are the policies that share connections out, by weight.
func spreading() []string {
	return slices.DeleteFunc(balancer.Names(), func(name string) bool { return name == "first" })
}

func TestBuiltInsKeepTheContract(t *testing.T) {
	for _, name := range balancer.Names() {
		t.Run(name, func(t *testing.T) {
			balancertest.Run(t, func() balancer.Policy { return newPolicy(t, name) })
		})
	}
}

func TestBuiltInsSpreadByWeight(t *testing.T) {
	for _, name := range spreading() {
		t.Run(name, func(t *testing.T) {
			factory := func() balancer.Policy { return newPolicy(t, name) }
			balancertest.Spreads(t, factory)
			balancertest.Weighs(t, factory)
		})
	}
}

func TestNewNamesTheKnownPolicies(t *testing.T) {
	_, err := balancer.New("fastest")
	if err == nil {
		t.Fatal("an unknown name made a policy")
	}
	for _, want := range append(balancer.Names(), `"fastest"`) {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %s", err, want)
		}
	}
}
