package proxier

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/health"
)

// healthCheck is what a load balancer asks at a Service's healthCheckNodePort.
type healthCheck struct {
	serviceName
	port uint16
	// local counts the ready endpoints on this node, by address and not by port,
	// in each family that the Service has.
	local map[Family]int
}

// healthCheckOf is the health check of a Service that is to have one: its load
// balancer is to choose nodes with local endpoints. nil: there is none. The ports
// have their endpoints.
func (d *desired) healthCheckOf(s *corev1.Service) *healthCheck {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || externalPolicy(s) != ExternalLocal {
		return nil
	}
	if s.Spec.HealthCheckNodePort == 0 {
		d.problem(s.Namespace, s.Name, "NoHealthCheckNodePort",
			"externalTrafficPolicy is Local and there is no healthCheckNodePort: the load balancer cannot know which nodes have endpoints")
		return nil
	}
	check := &healthCheck{serviceName{s.Namespace, s.Name}, uint16(s.Spec.HealthCheckNodePort), map[Family]int{}}
	here := d.readyHere()
	for _, ip := range d.clusterIPs(s) {
		family := familyOf(ip)
		check.local[family] = len(here[family])
	}
	return check
}

// readyHere are the addresses of ready endpoints on this node.
func (d *desired) readyHere() map[Family]map[netip.Addr]bool {
	here := map[Family]map[netip.Addr]bool{IPv4: {}, IPv6: {}}
	for _, p := range d.ports {
		if p.Local.Terminating {
			continue
		}
		for _, e := range p.Local.Endpoints {
			here[p.Family][e.Addr.Addr()] = true
		}
	}
	return here
}

// openPorts are the ports of our own that load balancers must reach.
func (d *desired) openPorts() (ports []uint16) {
	for _, c := range d.checks {
		ports = append(ports, c.port)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// syncChecks makes the health checks be answered.
func (p *Proxier) syncChecks(checks []healthCheck, node *nodeState) (problems []Problem) {
	p.asksFor = checks
	want := make([]health.Service, len(checks))
	for i, c := range checks {
		want[i] = health.Service{Namespace: c.namespace, Name: c.name, Port: c.port, Local: map[corev1.IPFamily]int{}}
		for family, n := range c.local {
			want[i].Local[family.ipFamily()] = n
		}
	}
	for _, err := range p.checks.Sync(want, node.checkAddresses()) {
		problems = append(problems, Problem{serviceRef(err.Namespace, err.Name), "FailedToStartServiceHealthcheck", err.Error()})
	}
	return problems
}
