package source

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// scheme knows the few kinds that usher reads and writes. client-go's own
// clientset would know all kinds of all groups, and be most of the binary.
var scheme = newScheme()

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(corev1.SchemeGroupVersion,
		&corev1.Service{}, &corev1.ServiceList{}, &corev1.Node{}, &corev1.NodeList{}, &corev1.Event{}, &corev1.EventList{})
	s.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(s, discoveryv1.SchemeGroupVersion)
	return s
}

// connect returns clients of the two API groups, which share connections and
// the limit on requests per second. It sends nothing yet.
func (a *API) connect() (core, discovery rest.Interface, err error) {
	if a.http, err = rest.HTTPClientFor(a.rest); err != nil {
		return nil, nil, err
	}
	if core, err = groupClient(a, "/api", corev1.SchemeGroupVersion); err != nil {
		return nil, nil, err
	}
	discovery, err = groupClient(a, "/apis", discoveryv1.SchemeGroupVersion)
	return core, discovery, err
}

func groupClient(a *API, path string, group schema.GroupVersion) (rest.Interface, error) {
	config := rest.CopyConfig(a.rest)
	config.APIPath = path
	config.GroupVersion = &group
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientForConfigAndClient(config, a.http)
}
