package proxier

import (
	"fmt"
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

// checkPolicies makes each policy once: what fails here would fail in each Service
// that asks for it.
func (c *Config) checkPolicies() error {
	for name, own := range c.Policies {
		if own == nil || own() == nil {
			return fmt.Errorf("the balancer %s of Config.Policies is nil: it has to make a balancer.Policy", name)
		}
	}
	_, err := c.newPolicy(c.Service.Balancer)
	return err
}

// policyNames are all that newPolicy knows.
func (c *Config) policyNames() []string {
	return slices.Concat(balancer.Names(), slices.Sorted(maps.Keys(c.Policies)))
}
