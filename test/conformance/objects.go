package conformance

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// Where the addresses of load balancers and spec.externalIPs come from. No node
// has them. The client outside routes both to node-1.
var (
	loadBalancerCIDRv4 = netip.MustParsePrefix("203.0.113.0/24")
	loadBalancerCIDRv6 = netip.MustParsePrefix("2001:db8:1::/64")
	externalCIDRv4     = netip.MustParsePrefix("198.51.100.0/24")
	externalCIDRv6     = netip.MustParsePrefix("2001:db8:2::/64")
)

// numbers count what is handed out, so that no two cases share it.
type numbers struct {
	services, loadBalancers, externals, nodePorts int
	marker                                        int // port of the World's own Service
}

// service is a dual-stack Service with addresses of its own.
func (w *World) service(name string, ports ...corev1.ServicePort) *corev1.Service {
	w.numbers.services++
	n := w.numbers.services
	v4, v6 := fmt.Sprintf("10.96.%d.%d", 1+n/250, 1+n%250), fmt.Sprintf("fd00:10:96::1%03x", n)
	both := corev1.IPFamilyPolicyRequireDualStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeClusterIP,
			ClusterIP:      v4,
			ClusterIPs:     []string{v4, v6},
			IPFamilies:     []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			IPFamilyPolicy: &both,
			Ports:          ports,
		},
	}
}

// loadBalancer is a Service with a load balancer's addresses in its status, and
// no NodePorts but those that its ports name.
func (w *World) loadBalancer(name string, ports ...corev1.ServicePort) *corev1.Service {
	w.numbers.loadBalancers++
	s, no := w.service(name, ports...), false
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.AllocateLoadBalancerNodePorts = &no
	for _, cidr := range []netip.Prefix{loadBalancerCIDRv4, loadBalancerCIDRv6} {
		ip := nth(cidr, w.numbers.loadBalancers).String()
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

// addExternalIPs gives a Service external addresses of its own.
func (w *World) addExternalIPs(s *corev1.Service) {
	w.numbers.externals++
	for _, cidr := range []netip.Prefix{externalCIDRv4, externalCIDRv6} {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, nth(cidr, w.numbers.externals).String())
	}
}

// newNodePort is a NodePort of nobody else's, out of the band that the API
// server does not choose from by itself.
func (w *World) newNodePort() int32 {
	w.numbers.nodePorts++
	if w.numbers.nodePorts > 85 {
		w.t.Fatal("there are 85 NodePorts for all cases together")
	}
	return 30000 + int32(w.numbers.nodePorts)
}

// nth is the nth address of a prefix.
func nth(p netip.Prefix, n int) netip.Addr {
	ip := p.Addr()
	for range n {
		ip = ip.Next()
	}
	return ip
}

func tcp(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP}
}

func udp(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolUDP}
}

func nodePort(name string, port, nodePort int32) corev1.ServicePort {
	p := tcp(name, port)
	p.NodePort = nodePort
	return p
}

// servesUDP makes all ports those of UDP.
func servesUDP(s *corev1.Service) {
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].Protocol = corev1.ProtocolUDP
	}
}

// protocol is that of the port of a name. A port that the Service has not got
// would be one of TCP.
func protocol(s *corev1.Service, portName string) corev1.Protocol {
	for _, p := range s.Spec.Ports {
		if p.Name == portName {
			return p.Protocol
		}
	}
	return corev1.ProtocolTCP
}

// internalLocal and externalLocal set the traffic policies to Local.
func internalLocal(s *corev1.Service) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	s.Spec.InternalTrafficPolicy = &local
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// sticky sets affinity with a timeout.
func sticky(s *corev1.Service, seconds int32) {
	s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{
		ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds},
	}
}

// vips are the cluster IPs of a Service, with a port.
func vips(s *corev1.Service, port uint16) []netip.AddrPort { return parsed(port, s.Spec.ClusterIPs...) }

// externalIPs are those of the Service's spec, with a port.
func externalIPs(s *corev1.Service, port uint16) []netip.AddrPort {
	return parsed(port, s.Spec.ExternalIPs...)
}

// loadBalancerIPs are those of the Service's status, with a port.
func loadBalancerIPs(s *corev1.Service, port uint16) (list []netip.AddrPort) {
	for _, in := range s.Status.LoadBalancer.Ingress {
		list = append(list, parsed(port, in.IP)...)
	}
	return list
}

func parsed(port uint16, ips ...string) (list []netip.AddrPort) {
	for _, ip := range ips {
		list = append(list, netip.AddrPortFrom(netip.MustParseAddr(ip), port))
	}
	return list
}

// An endpoint is a pod and what a slice says about it.
type endpoint struct {
	*netns.Pod
	discoveryv1.EndpointConditions
	noNode bool
	hints  discoveryv1.EndpointHints
}

// conditions is an endpoint with these conditions, nil for one that nobody set.
func conditions(pod *netns.Pod, ready, serving, terminating *bool) endpoint {
	return endpoint{Pod: pod, EndpointConditions: discoveryv1.EndpointConditions{
		Ready: ready, Serving: serving, Terminating: terminating,
	}}
}

var yes, no = new(true), new(false)

// ready is an endpoint as it should be.
func ready(pod *netns.Pod) endpoint { return conditions(pod, yes, yes, no) }

// unready is an endpoint that fails its readiness probe.
func unready(pod *netns.Pod) endpoint { return conditions(pod, no, no, no) }

// terminating is an endpoint that is shutting down and still serves.
func terminating(pod *netns.Pod) endpoint { return conditions(pod, no, yes, yes) }

// terminated is an endpoint that is shutting down and does not serve any more.
func terminated(pod *netns.Pod) endpoint { return conditions(pod, no, no, yes) }

// onNoNode is the endpoint without its node's name.
func (e endpoint) onNoNode() endpoint {
	e.noNode = true
	return e
}

// forZones is the endpoint with hints for zones.
func (e endpoint) forZones(names ...string) endpoint {
	e.hints.ForZones = nil
	for _, n := range names {
		e.hints.ForZones = append(e.hints.ForZones, discoveryv1.ForZone{Name: n})
	}
	return e
}

// forNodes is the endpoint with hints for nodes.
func (e endpoint) forNodes(names ...string) endpoint {
	e.hints.ForNodes = nil
	for _, n := range names {
		e.hints.ForNodes = append(e.hints.ForNodes, discoveryv1.ForNode{Name: n})
	}
	return e
}

// object is the endpoint with one of its pod's addresses.
func (e endpoint) object(addr netip.Addr) discoveryv1.Endpoint {
	o := discoveryv1.Endpoint{Addresses: []string{addr.String()}, Conditions: e.EndpointConditions}
	o.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: e.Pod.Name}
	if node := e.Pod.Node.Name; !e.noNode {
		zone := zones[node]
		o.NodeName, o.Zone = &node, &zone
	}
	if len(e.hints.ForZones)+len(e.hints.ForNodes) > 0 {
		o.Hints = e.hints.DeepCopy()
	}
	return o
}

// slicesOf are EndpointSlices of a Service for pods that are ready, one per
// family, named <service>-<suffix>-v4 and -v6. The protocol is that of the port.
func slicesOf(s *corev1.Service, suffix, portName string, port int32, pods ...*netns.Pod) []Object {
	var ends []endpoint
	for _, p := range pods {
		ends = append(ends, ready(p))
	}
	return slicesWith(s, suffix, portName, port, ends...)
}

// slicesWith is slicesOf for endpoints of any kind.
func slicesWith(s *corev1.Service, suffix, portName string, port int32, ends ...endpoint) []Object {
	v4 := slice(s, suffix+"-v4", portName, port, protocol(s, portName))
	v6 := slice(s, suffix+"-v6", portName, port, protocol(s, portName))
	v6.AddressType = discoveryv1.AddressTypeIPv6
	for _, e := range ends {
		v4.Endpoints = append(v4.Endpoints, e.object(e.Pod.IPv4))
		v6.Endpoints = append(v6.Endpoints, e.object(e.Pod.IPv6))
	}
	return []Object{v4, v6}
}

// slice is one EndpointSlice with addresses that are ready and on no node.
func slice(s *corev1.Service, suffix, portName string, port int32, protocol corev1.Protocol, addrs ...netip.Addr) *discoveryv1.EndpointSlice {
	sl := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name + "-" + suffix,
			Labels: map[string]string{discoveryv1.LabelServiceName: s.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &protocol}},
	}
	if len(addrs) > 0 && addrs[0].Is6() {
		sl.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, a := range addrs {
		sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{a.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: yes},
		})
	}
	return sl
}

// objects lists one Service and its slices.
func objects(s *corev1.Service, slices ...[]Object) []Object {
	all := []Object{s}
	for _, more := range slices {
		all = append(all, more...)
	}
	return all
}
