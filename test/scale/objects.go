package scale

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	servicePort = 80
	backendPort = 8080
	proxyName   = "service.kubernetes.io/service-proxy-name"
	namespace   = metav1.NamespaceDefault

	// maxServices leaves room in the addresses for those that are added.
	maxServices = 50_000
)

var (
	firstVIP = netip.MustParseAddr("10.96.1.0")
	// backends holds all endpoints: those that Services begin with, and in its second half
	// those that take their place.
	backends = netip.MustParsePrefix("10.0.0.0/12")
)

// generation is which of its two sets of endpoints a Service has.
type generation int

const generationSize = 1 << 19 // addresses of one of them in backends

// number is that of a Service. All else follows from it.
type number int

func (n number) name() string { return fmt.Sprintf("service-%05d", n) }

// vip is where the Service is served.
func (n number) vip() netip.AddrPort { return netip.AddrPortFrom(plus(firstVIP, int(n)), servicePort) }

// endpoint is the address of one of its endpoints.
func (n number) endpoint(i int, g generation) netip.Addr {
	return plus(backends.Addr(), int(g)*generationSize+int(n)*perService+i)
}

// generationOf is that of the endpoint that has answered.
func generationOf(endpoint netip.Addr) generation {
	if endpoint.Less(plus(backends.Addr(), generationSize)) {
		return 0
	}
	return 1
}

func plus(addr netip.Addr, n int) netip.Addr {
	b := addr.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
	return netip.AddrFrom4(b)
}

// service has one TCP port. It is for the proxy of a name, "" for that of the cluster.
func (n number) service(proxy string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: n.name(), Labels: labels(proxy)},
		Spec: corev1.ServiceSpec{
			ClusterIP: n.vip().Addr().String(),
			Ports:     []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: servicePort}},
		},
	}
}

// slice has all of the Service's endpoints.
func (n number) slice(proxy string, g generation) *discoveryv1.EndpointSlice {
	name, protocol, port, ready := "http", corev1.ProtocolTCP, int32(backendPort), true
	s := &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: n.name(), Labels: labels(proxy)},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	s.Labels[discoveryv1.LabelServiceName] = n.name()
	for i := range perService {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{n.endpoint(i, g).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-%d", n.name(), i)},
		})
	}
	return s
}

func labels(proxy string) map[string]string {
	if proxy == "" {
		return map[string]string{}
	}
	return map[string]string{proxyName: proxy}
}
