package balancer

import (
	"fmt"
	"strings"
)

// Names of the built-in policies.
const (
	roundRobinName = "round-robin"
	randomName     = "random"
)

// New returns a new Policy of the built-in kind of that name. Every Service
// port needs one of its own. An unknown name is an error that tells the known
// ones.
func New(name string) (Policy, error) {
	switch name {
	case roundRobinName:
		return newRoundRobin(), nil
	case randomName:
		return random{}, nil
	}
	return nil, fmt.Errorf("unknown balancer policy %q: use one of %s", name, strings.Join(Names(), ", "))
}

// Names returns the names of the built-in policies, the default first.
func Names() []string {
	return []string{roundRobinName, randomName}
}
