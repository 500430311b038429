package proxier

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/outlier"
)

// portView explains one Port. The endpoints that are not eligible are not kept
// anywhere: they are found again in the EndpointSlices.
type portView struct {
	*desired
	seenPort
	pool
	topology    topology
	sets        []Set // those that clients may get
	health      map[netip.AddrPort]outlier.Status
	connections map[netip.AddrPort]int
}

func newPortView(d *desired, s seenPort) *portView {
	health := s.listener.health.Status()
	v := &portView{
		desired: d, seenPort: s, sets: s.port.sets(), pool: pool{all: make(map[netip.AddrPort]endpoint, s.port.Known)},
		health: make(map[netip.AddrPort]outlier.Status, len(health)), connections: map[netip.AddrPort]int{},
	}
	again := &Port{Key: s.key}
	for _, slice := range d.planner.slicesOf(serviceName{s.key.Namespace, s.key.Name}) {
		d.addSlice(again, slice, &v.pool)
	}
	v.topology = d.topologyOf(v.all)
	for _, h := range health {
		v.health[h.Endpoint] = h
	}
	for _, c := range s.listener.connections.of(s.listener) {
		if to := c.endpoint(); to.IsValid() {
			v.connections[to]++
		}
	}
	return v
}

// sets are those that clients of some frontend get.
func (p *Port) sets() (list []Set) {
	for _, set := range []Set{ClusterSet, LocalSet} {
		if slices.ContainsFunc(p.Frontends, func(f Frontend) bool { return f.Policy.set(true) == set || f.Policy.set(false) == set }) {
			list = append(list, set)
		}
	}
	return list
}

// number is that of spec.ports, as far as a frontend tells it.
func (p *Port) number() uint16 {
	for _, f := range p.Frontends {
		if f.Kind != NodePort {
			return f.Port
		}
	}
	return 0
}

func (v *portView) status() admin.ServicePort {
	s := admin.ServicePort{
		Namespace: v.key.Namespace, Service: v.key.Name, PortName: v.key.Port, Port: v.port.number(),
		Protocol: v.key.Protocol, Family: v.key.Family.String(), Balancer: v.port.Settings.Balancer,
		Endpoints: make([]admin.EndpointStatus, 0, len(v.all)),
	}
	for _, set := range v.sets {
		e := v.port.eligible(set)
		s.Sets = append(s.Sets, admin.SetStatus{Name: string(set), Endpoints: len(e.Endpoints), Terminating: e.Terminating, Topology: e.Topology})
	}
	for _, addr := range slices.SortedFunc(maps.Keys(v.all), netip.AddrPort.Compare) {
		s.Endpoints = append(s.Endpoints, v.endpoint(v.all[addr]))
	}
	for _, addr := range slices.SortedFunc(maps.Keys(v.connections), netip.AddrPort.Compare) {
		if _, known := v.all[addr]; !known {
			e := outside(addr.String(), v.left())
			e.Connections = v.connectionsTo(addr)
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	for _, e := range v.port.Excluded {
		s.Endpoints = append(s.Endpoints, outside(e.Addr, "not used: "+e.Reason))
	}
	return s
}

// outside is an endpoint of which nothing is known but its address.
func outside(addr, why string) admin.EndpointStatus {
	return admin.EndpointStatus{Address: addr, Sets: []string{}, State: admin.Out, Why: why}
}

// endpoint tells of one that may be dialled.
func (v *portView) endpoint(e endpoint) admin.EndpointStatus {
	s := admin.EndpointStatus{
		Address: e.Addr.String(), Pod: e.Pod, Node: e.Node, Zone: e.Zone,
		Sets: []string{}, State: admin.Out, Connections: v.connectionsTo(e.Addr),
	}
	var health outlier.Status
	var against []string // by set
	for _, set := range v.sets {
		weighed := *v.weighed.of(set)
		i, eligible := slices.BinarySearchFunc(weighed, e.Addr, func(e balancer.Endpoint, a netip.AddrPort) int { return e.Addr.Compare(a) })
		if !eligible {
			against = append(against, v.notIn(set, e))
			continue
		}
		health = v.health[e.Addr]
		s.Sets = append(s.Sets, string(set))
		s.Weight, s.Health = max(s.Weight, weighed[i].Weight, 1), &health
		if !slices.Contains(health.Withheld, string(set)) {
			s.State = admin.In
		}
	}
	s.Why = v.why(e, s, against)
	return s
}

// why joins what is known: what Kubernetes says, what usher found out, and why some
// set is without it.
func (v *portView) why(e endpoint, s admin.EndpointStatus, against []string) string {
	against = slices.Compact(against)
	if len(s.Sets) == 0 {
		return strings.Join(against, "; ")
	}
	say := "ready"
	if !e.ready {
		say = "terminating, still serving while none is ready"
	}
	if s.Health.Why != "" {
		say += ", " + v.judged(s)
	}
	for _, a := range against {
		say += "; " + a
	}
	return say
}

// judged is what connections and checks say.
func (v *portView) judged(s admin.EndpointStatus) string {
	why := s.Health.Why
	switch {
	case !s.Health.Out:
		return strings.TrimPrefix(why, "in, ") // State says so
	case s.State == admin.Out: // it may be kept in use by a set that no client gets
		why, _, _ = strings.Cut(why, ", stays in use all the same")
	}
	return "but " + why
}

// notIn is why an endpoint is not eligible in a set.
func (v *portView) notIn(set Set, e endpoint) string {
	switch {
	case e.drained != nil:
		return e.drained.why()
	case !e.ready && !e.terminating:
		return "not ready"
	case !e.ready && !e.serving:
		return "terminating, and it does not serve any more"
	case set == LocalSet && e.Node == "":
		return "not in the local set: it does not say on which node it is"
	case set == LocalSet && !v.isLocal(e):
		return fmt.Sprintf("not in the local set: it is on node %s, this is node %s", e.Node, v.nodeName)
	case !e.ready:
		return "terminating: it still serves, but others are ready"
	}
	hinted := map[hint][]string{nodeHint: e.nodes, zoneHint: e.zones}[v.topology.kind]
	return fmt.Sprintf("its topology hints are for %s %s, this is %[1]s %[3]s", v.topology.kind, strings.Join(hinted, ", "), v.topology.name)
}

// left is why an endpoint is told of that has left.
func (v *portView) left() string {
	const left = "it has left the EndpointSlices; its connections may go on"
	if d := v.port.Settings.Drain.Timeout; d >= 0 {
		return left + fmt.Sprintf(" for %s from then", d)
	}
	return left
}

func (v *portView) connectionsTo(addr netip.AddrPort) *int {
	if v.key.Protocol == udpProtocol {
		return nil
	}
	return new(v.connections[addr])
}
