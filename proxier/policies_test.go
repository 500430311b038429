package proxier

import (
	"strings"
	"testing"

	"github.com/usher-proxy/usher/balancer"
)

// What is no policy is told at the start, not in the first Service that asks for it.
func TestPoliciesThatAreNone(t *testing.T) {
	for name, own := range map[string]func() balancer.Policy{
		"missing": nil,
		"nothing": func() balancer.Policy { return nil },
	} {
		cfg := Config{Policies: map[string]func() balancer.Policy{name: own}}
		cfg.Service.Balancer = "round-robin"
		if _, err := New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
