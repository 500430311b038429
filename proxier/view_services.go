package proxier

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
)

// Services are those that are served, by name: those of a namespace, or of a name, where
// these are not empty. It is empty before the first pass, and safe for concurrent use.
func (p *Proxier) Services(namespace, name string) []admin.Service {
	list := []admin.Service{}
	seen := p.seen.Load()
	if seen == nil {
		return list
	}
	var ports []seenPort
	for _, l := range seen.serving {
		if now := l.current.Load(); now != nil && (namespace == "" || namespace == l.key.Namespace) && (name == "" || name == l.key.Name) {
			ports = append(ports, seenPort{l, now})
		}
	}
	v := servicesView{seen: seen, objects: seen.services(), traffic: map[*observe.PortMetrics]admin.Traffic{}}
	recent := p.connectTimes()
	for _, n := range p.numbers() {
		v.traffic[n.PortMetrics] = trafficOf(&n, recent[&n.PortMetrics.ServicePort])
	}
	for len(ports) > 0 { // they are sorted
		n := 1
		for n < len(ports) && ports[n].key.Namespace == ports[0].key.Namespace && ports[n].key.Name == ports[0].key.Name {
			n++
		}
		list = append(list, v.service(ports[:n]))
		ports = ports[n:]
	}
	return list
}

// services are the objects by name.
func (s *seen) services() map[serviceName]*corev1.Service {
	all := make(map[serviceName]*corev1.Service, len(s.objects.Services))
	for _, o := range s.objects.Services {
		all[serviceName{o.Namespace, o.Name}] = o
	}
	return all
}

type servicesView struct {
	*seen
	objects map[serviceName]*corev1.Service
	traffic map[*observe.PortMetrics]admin.Traffic
}

// service tells of the Service of some ports.
func (v *servicesView) service(ports []seenPort) admin.Service {
	name := serviceName{ports[0].key.Namespace, ports[0].key.Name}
	s := admin.Service{Namespace: name.namespace, Name: name.name, Type: string(corev1.ServiceTypeClusterIP), Addresses: []string{}}
	object := v.objects[name]
	if object != nil {
		s.Labels, s.Created = object.Labels, object.CreationTimestamp.Time
		if object.Spec.Type != "" {
			s.Type = string(object.Spec.Type)
		}
		wishes(&s, object, ports)
	}
	slices := v.planner.slicesOf(name)
	for _, one := range ports {
		one.addAddresses(&s)
		if last := len(s.Ports) - 1; last < 0 || s.Ports[last].Name != one.key.Port || s.Ports[last].Protocol != one.key.Protocol {
			s.Ports = append(s.Ports, v.port(one))
		}
		into := &s.Ports[len(s.Ports)-1]
		into.Families = append(into.Families, v.family(one, slices))
		for _, f := range one.port.Frontends {
			if f.Kind == NodePort {
				into.NodePort = f.Port
			} else {
				into.Port = f.Port
			}
		}
	}
	return s
}

// wishes are what the object asks for beyond the defaults.
func wishes(s *admin.Service, object *corev1.Service, ports []seenPort) {
	spec := &object.Spec
	if keeps := ports[0].port.Affinity; keeps > 0 {
		s.Affinity = fmt.Sprintf("%s, for %s", corev1.ServiceAffinityClientIP, keeps)
	}
	if spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.ExternalPolicy, s.HealthCheckPort = string(spec.ExternalTrafficPolicy), spec.HealthCheckNodePort
	}
	if policy := spec.InternalTrafficPolicy; policy != nil && *policy == corev1.ServiceInternalTrafficPolicyLocal {
		s.InternalPolicy = string(*policy)
	}
	s.SourceRanges = spec.LoadBalancerSourceRanges
	for key, value := range object.Annotations {
		if strings.HasPrefix(key, annotation.Prefix) {
			if s.Annotations == nil {
				s.Annotations = map[string]string{}
			}
			s.Annotations[key] = value
		}
	}
}

// addAddresses adds those of the frontends.
func (s seenPort) addAddresses(to *admin.Service) {
	for _, f := range s.port.Frontends {
		list := &to.External
		switch f.Kind {
		case NodePort:
			continue
		case ClusterIP:
			list = &to.Addresses
		}
		if text := f.Addr.String(); !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
}

func (v *servicesView) port(of seenPort) admin.Port {
	return admin.Port{
		Name: of.key.Port, Protocol: of.key.Protocol, Balancer: of.port.Settings.Balancer,
		Families: []admin.Family{}, Traffic: v.traffic[of.shared.metrics],
	}
}

func (v *servicesView) family(of seenPort, from []*discoveryv1.EndpointSlice) admin.Family {
	usable, ill := of.usable()
	return admin.Family{
		Family: of.key.Family.String(), Answer: of.port.answer(), Endpoints: namedEndpoints(of.key, from), Usable: usable, Ill: ill,
	}
}

// answer is what clients get, those of the best set if there are two.
func (p *Port) answer() string {
	text := refuseAnswer
	for _, set := range p.sets() {
		switch a := p.eligible(set).answer(); {
		case a.text() == serveAnswer:
			return serveAnswer
		case a.text() == silenceAnswer:
			text = silenceAnswer
		}
	}
	return text
}

// usable is how many endpoints get connections in some set that clients get, and how many
// of those that could are left out for their health.
func (s seenPort) usable() (usable, ill int) {
	sets := s.port.sets()
	isIn := func(addr netip.AddrPort) bool {
		return slices.ContainsFunc(sets, func(set Set) bool { return s.port.eligible(set).has(addr) })
	}
	for i, set := range sets {
		for _, e := range s.port.eligible(set).Endpoints {
			if i == 0 || !s.port.eligible(sets[0]).has(e.Addr) {
				usable++
			}
		}
	}
	if usable == 0 || s.listener.health.Ill() == 0 {
		return usable, 0
	}
	for _, h := range s.listener.health.Status() {
		withheld := func(set Set) bool { return slices.Contains(h.Withheld, string(set)) }
		if len(h.Withheld) > 0 && isIn(h.Endpoint) &&
			!slices.ContainsFunc(sets, func(set Set) bool { return s.port.eligible(set).has(h.Endpoint) && !withheld(set) }) {
			usable--
			ill++
		}
	}
	return usable, ill
}

// namedEndpoints is how many endpoints EndpointSlices name for a Service port in a family.
func namedEndpoints(key Key, from []*discoveryv1.EndpointSlice) (n int) {
	type at struct {
		addr string
		port int32
	}
	var seen map[at]bool // of several slices, which may name the same one
	for _, slice := range from {
		if slice.AddressType != addressType(key.Family) {
			continue
		}
		for _, port := range slice.Ports {
			if port.Name == nil || *port.Name != key.Port || port.Port == nil || protocols[corev1.Protocol(deref((*string)(port.Protocol)))] != key.Protocol {
				continue
			}
			if len(from) == 1 {
				n += len(slice.Endpoints)
				continue
			}
			if seen == nil {
				seen = make(map[at]bool, len(slice.Endpoints))
			}
			for _, e := range slice.Endpoints {
				if len(e.Addresses) > 0 {
					seen[at{e.Addresses[0], *port.Port}] = true
				}
			}
		}
	}
	return n + len(seen)
}

func (p *Proxier) showServices(q url.Values) (any, error) {
	of, err := serviceIn(q)
	if err != nil {
		return nil, err
	}
	list := p.Services(of.namespace, of.name)
	if len(list) == 0 && of.name != "" {
		return nil, notServed(of.namespace, of.name)
	}
	return list, nil
}
