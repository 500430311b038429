package balancer

import (
	"fmt"
	"strings"
)

// Names of the built-in policies.
const (
	roundRobinName       = "round-robin"
	randomName           = "random"
	leastConnectionsName = "least-connections"
	p2cName              = "p2c"
	latencyName          = "latency"
	maglevName           = "maglev"
	firstName            = "first"
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
	case leastConnectionsName:
		return newLeastConnections(), nil
	case p2cName:
		return newP2C(), nil
	case latencyName:
		return newLatency(), nil
	case maglevName:
		return maglev{}, nil
	case firstName:
		return first{}, nil
	}
	return nil, fmt.Errorf("unknown balancer policy %q: use one of %s", name, strings.Join(Names(), ", "))
}

// Names returns the names of the built-in policies, the default first.
func Names() []string {
	return []string{roundRobinName, randomName, leastConnectionsName, p2cName, latencyName, maglevName, firstName}
}
