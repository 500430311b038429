package proxier

import (
	"maps"
	"slices"

	"github.com/usher-proxy/usher/balancer"
)

// newPolicy makes a balancer policy by its name. The configuration's own come
// before the built-in ones.
func (c *Config) newPolicy(name string) (balancer.Policy, error) {
	if own := c.Policies[name]; own != nil {
		return own(), nil
	}
	return balancer.New(name)
}

// policyNames are all that newPolicy knows.
func (c *Config) policyNames() []string {
	return slices.Concat(balancer.Names(), slices.Sorted(maps.Keys(c.Policies)))
}
