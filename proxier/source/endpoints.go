package source

//lint:file-ignore SA1019 Endpoints are deprecated, and yet in many files that people have.

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// In a cluster a controller copies Endpoints that someone wrote by hand into
// EndpointSlices, the only form that a proxy reads. These are its rules
// (kubernetes/pkg/controller/endpointslicemirroring); where it splits a subset
// into slices of 1000 addresses this does not.

const (
	mirroringController = "endpointslicemirroring-controller.k8s.io"
	leaderAnnotation    = "control-plane.alpha.kubernetes.io/leader"
)

func readEndpoints(d *decoder, it item) {
	e := &corev1.Endpoints{}
	if !d.into(it, e) {
		return
	}
	defaultNamespace(&e.ObjectMeta)
	defaultEndpoints(e)
	faults := validateEndpoints(e)
	o := object{id: identity{"Endpoints", e.Namespace, e.Name}}
	if len(faults) == 0 && isMirrored(e) {
		o.legacy = slicesOf(e)
		for _, s := range o.legacy {
			stamp(s, "EndpointSlice")
		}
	}
	d.fromFile(it, o, e, faults)
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			defaultTo(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
}

// validateEndpoints checks legacy Endpoints with their defaults filled in.
func validateEndpoints(e *corev1.Endpoints) checks {
	var c checks
	c.meta(e, isObjectName)
	for i, subset := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		for j, a := range subset.Addresses {
			c.address(at.Child("addresses").Index(j).Child("ip"), a.IP)
		}
		for j, a := range subset.NotReadyAddresses {
			c.address(at.Child("notReadyAddresses").Index(j).Child("ip"), a.IP)
		}
		names := make(map[string]bool)
		for j, p := range subset.Ports {
			at := at.Child("ports").Index(j)
			c.portName(at.Child("name"), p.Name, len(subset.Ports), names)
			c.protocol(at.Child("protocol"), p.Protocol)
			c.port(at.Child("port"), p.Port)
		}
	}
	return c
}

// isMirrored reports whether Endpoints become EndpointSlices. Some are only a
// lock for leader election.
func isMirrored(e *corev1.Endpoints) bool {
	_, lock := e.Annotations[leaderAnnotation]
	return !lock && e.Labels[discoveryv1.LabelSkipMirror] != "true"
}

// slicesOf returns the EndpointSlices for Endpoints: one for each subset and
// address family.
func slicesOf(e *corev1.Endpoints) []*discoveryv1.EndpointSlice {
	var all []*discoveryv1.EndpointSlice
	for i, subset := range e.Subsets {
		byFamily := endpointsOf(subset)
		for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
			if len(byFamily[family]) == 0 {
				continue
			}
			name := fmt.Sprintf("%s-mirror-%d-%s", e.Name, i, strings.ToLower(string(family)))
			all = append(all, &discoveryv1.EndpointSlice{
				ObjectMeta:  mirroredMeta(e, name),
				AddressType: discoveryv1.AddressType(family),
				Endpoints:   byFamily[family],
				Ports:       mirroredPorts(subset.Ports),
			})
		}
	}
	return all
}

func mirroredMeta(e *corev1.Endpoints, name string) metav1.ObjectMeta {
	labels := maps.Clone(e.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	delete(labels, corev1.IsHeadlessService)
	labels[discoveryv1.LabelServiceName] = e.Name
	labels[discoveryv1.LabelManagedBy] = mirroringController
	return metav1.ObjectMeta{
		Namespace: e.Namespace, Name: name, Labels: labels, CreationTimestamp: e.CreationTimestamp,
	}
}

func endpointsOf(subset corev1.EndpointSubset) map[corev1.IPFamily][]discoveryv1.Endpoint {
	byFamily := make(map[corev1.IPFamily][]discoveryv1.Endpoint)
	add := func(addresses []corev1.EndpointAddress, ready bool) {
		for _, a := range addresses {
			addr, _ := parseAddr(a.IP) // validated
			family := familyOf(addr)
			byFamily[family] = append(byFamily[family], mirroredEndpoint(a, ready))
		}
	}
	add(subset.Addresses, true)
	add(subset.NotReadyAddresses, false)
	return byFamily
}

func mirroredEndpoint(a corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{a.IP}, NodeName: a.NodeName, TargetRef: a.TargetRef,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready},
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

func mirroredPorts(ports []corev1.EndpointPort) []discoveryv1.EndpointPort {
	mirrored := make([]discoveryv1.EndpointPort, len(ports))
	for i, p := range ports {
		mirrored[i] = discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol}
	}
	return mirrored
}
