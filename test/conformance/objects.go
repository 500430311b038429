package conformance

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// service is a dual-stack Service with addresses of its own.
func (w *World) service(name string, ports ...corev1.ServicePort) *corev1.Service {
	n := nextService()
	v4, v6 := fmt.Sprintf("10.96.1.%d", n), fmt.Sprintf("fd00:10:96::1%02x", n)
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

var services int

// nextService numbers Services, so that no two cases share an address.
func nextService() int {
	services++
	return services
}

func tcp(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP}
}

func nodePort(name string, port, nodePort int32) corev1.ServicePort {
	p := tcp(name, port)
	p.NodePort = nodePort
	return p
}

// vips are the cluster IPs of a Service, with a port.
func vips(s *corev1.Service, port uint16) (list []netip.AddrPort) {
	for _, ip := range s.Spec.ClusterIPs {
		list = append(list, netip.AddrPortFrom(netip.MustParseAddr(ip), port))
	}
	return list
}

// slices are EndpointSlices of a Service for some pods, one per family.
func slices(s *corev1.Service, suffix, portName string, port int32, pods ...*netns.Pod) []Object {
	var v4, v6 []netip.Addr
	for _, p := range pods {
		v4, v6 = append(v4, p.IPv4), append(v6, p.IPv6)
	}
	return []Object{
		slice(s, suffix+"-v4", portName, port, corev1.ProtocolTCP, v4...),
		slice(s, suffix+"-v6", portName, port, corev1.ProtocolTCP, v6...),
	}
}

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
	yes := true
	for _, a := range addrs {
		sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{a.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes},
		})
	}
	return sl
}

// both lists one Service and its slices.
func objects(s *corev1.Service, slices ...[]Object) []Object {
	all := []Object{s}
	for _, more := range slices {
		all = append(all, more...)
	}
	return all
}
