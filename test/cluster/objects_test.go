package cluster

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// service is a Service with one port, named http. The API server chooses its
// address.
func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

// slice is an EndpointSlice of that Service with some pods.
func slice(s *corev1.Service, suffix string, pods ...*netns.Pod) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	sl := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name + "-" + suffix,
			Labels: map[string]string{discoveryv1.LabelServiceName: s.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, pod := range pods {
		sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{pod.IPv4.String()},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: pod.Name},
		})
	}
	return sl
}

// url is where a Service that has been applied is served.
func url(s *corev1.Service) string { return "http://" + s.Spec.ClusterIP }

// serve applies a Service with these pods as its endpoints, and returns its URL.
func (c *cluster) serve(name string, pods ...*netns.Pod) string {
	c.t.Helper()
	s := service(name)
	c.api.Apply(s, slice(s, "1", pods...))
	return url(s)
}
