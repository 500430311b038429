package source

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func sameLists(a, b Objects) (services, slices bool) {
	return &a.Services[0] == &b.Services[0], &a.Slices[0] == &b.Slices[0]
}

// Who has a list sees at once that nothing has changed in it.
func TestAPIListsAnewOnlyWhatHasChanged(t *testing.T) {
	f := newFakeAPI(t)
	f.put("services", apiService("a", "10.96.0.1"))
	f.put("endpointslices", apiSlice("a-1"))
	a := newTestAPI(t, f, newLogbook(t))
	run(t, a)
	until(t, a, "the lists", has("default/a", "slice default/a-1"))
	var before Objects
	within(t, "the same lists again", func() bool {
		before, _ = a.Objects()
		now, _ := a.Objects()
		services, slices := sameLists(before, now)
		return services && slices
	})
	n := 0
	within(t, "a slice comes, and the Services are the same list", func() bool {
		n++
		before, _ = a.Objects()
		f.put("endpointslices", apiSlice(fmt.Sprintf("b-%d", n)))
		now := until(t, a, "a slice came", func(o Objects) bool { return len(o.Slices) == n+1 })
		services, slices := sameLists(before, now)
		if slices || len(before.Slices) != n {
			t.Fatal("a list that was given out has changed")
		}
		return services
	})
	before, _ = a.Objects()
	f.put("services", apiService("a", "10.96.0.2"))
	within(t, "the Service has changed", func() bool {
		now, _ := a.Objects()
		return now.Services[0].Spec.ClusterIP == "10.96.0.2"
	})
	if before.Services[0].Spec.ClusterIP != "10.96.0.1" {
		t.Error("a list that was given out has changed")
	}
}

// bigSlice is a slice of 5 endpoints as the endpoint controller writes it.
func bigSlice(i int) *discoveryv1.EndpointSlice {
	name, port, protocol, https := "http", int32(8080), corev1.ProtocolTCP, "https"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: fmt.Sprintf("service-%05d-abcde", i), GenerateName: fmt.Sprintf("service-%05d-", i),
			UID: types.UID(fmt.Sprintf("6cbf2e5c-8a1c-4f53-9d0a-%012d", i)), ResourceVersion: fmt.Sprint(1000 + i), Generation: 3,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: fmt.Sprintf("service-%05d", i), discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
				"app.kubernetes.io/name": "some-application",
			},
			Annotations:     map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z", "other": "something"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: fmt.Sprintf("service-%05d", i), UID: "6cbf2e5c-8a1c-4f53-9d0a-000000000000"}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol, AppProtocol: &https}},
	}
	for e := range 5 {
		ready, serving, terminating := true, true, false
		node, zone := fmt.Sprintf("node-%d.example.org", e), "eu-central-1a"
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", e, i>>8, i&255)},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
			NodeName:   &node, Zone: &zone, Hostname: &node,
			TargetRef: &corev1.ObjectReference{
				Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("service-%05d-5d4f8c7b9-%05d", i, e),
				UID: types.UID(fmt.Sprintf("7cbf2e5c-8a1c-4f53-9d0a-%012d", 5*i+e)),
			},
			Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}},
		})
	}
	return s
}

// decoded is an object as it comes from the API server: nothing in it is shared.
func decoded(tb testing.TB, s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	raw, err := s.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	fresh := &discoveryv1.EndpointSlice{}
	if err := fresh.Unmarshal(raw); err != nil {
		tb.Fatal(err)
	}
	return fresh
}

func stripped[T any](tb testing.TB, o T) T {
	s, err := strip(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s.(T)
}

func TestStrippedSliceKeepsWhatIsServed(t *testing.T) {
	all, s := bigSlice(1), stripped(t, decoded(t, bigSlice(1)))
	if s.Name != all.Name || s.Namespace != all.Namespace || s.UID != all.UID || s.ResourceVersion != all.ResourceVersion ||
		s.AddressType != all.AddressType || s.Labels[discoveryv1.LabelServiceName] != "service-00001" ||
		s.Annotations[corev1.EndpointsLastChangeTriggerTime] == "" {
		t.Errorf("the slice is %+v", s)
	}
	if len(s.Labels) != 1 || len(s.Annotations) != 1 || s.OwnerReferences != nil || s.GenerateName != "" {
		t.Errorf("kept what nobody reads: %+v", s.ObjectMeta)
	}
	if p := s.Ports[0]; *p.Name != "http" || *p.Port != 8080 || *p.Protocol != corev1.ProtocolTCP {
		t.Errorf("port %+v", p)
	}
	for i, e := range s.Endpoints {
		want := all.Endpoints[i]
		c, ref := e.Conditions, e.TargetRef
		if e.Addresses[0] != want.Addresses[0] || *e.NodeName != *want.NodeName || *e.Zone != *want.Zone || !*c.Ready || !*c.Serving || *c.Terminating ||
			ref.Kind != "Pod" || ref.Namespace != "default" || ref.Name != want.TargetRef.Name || e.Hints.ForZones[0].Name != "eu-central-1a" {
			t.Errorf("endpoint %+v", e)
		}
	}
	unset := stripped(t, &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{{}}, Ports: []discoveryv1.EndpointPort{{}}})
	if e, p := unset.Endpoints[0], unset.Ports[0]; e.Conditions != (discoveryv1.EndpointConditions{}) || e.NodeName != nil || e.TargetRef != nil || p.Name != nil || p.Protocol != nil {
		t.Errorf("what nobody set is %+v, %+v", e, p)
	}
}

func TestStrippedServiceKeepsWhatIsServed(t *testing.T) {
	s := apiService("a", "10.96.0.1")
	s.Labels, s.Spec.Selector = map[string]string{"a": "b"}, map[string]string{"a": "b"}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
	s.Annotations["other"] = "long"
	s = stripped(t, s)
	if s.Name != "a" || s.UID == "" || s.Spec.ClusterIP == "" || len(s.Spec.Ports) != 1 || len(s.Status.LoadBalancer.Ingress) != 1 || s.Annotations["usher-proxy.io/balancer"] != "first" {
		t.Errorf("the Service is %+v", s)
	}
	if len(s.Annotations) != 1 || s.Labels != nil || s.Spec.Selector != nil {
		t.Errorf("kept what nobody reads: %+v", s)
	}
}

// held is what objects cost in the heap.
func held(b *testing.B, n int, build func(i int) any) float64 {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, all := heap(), make([]any, n)
	for i := range all {
		all[i] = build(i)
	}
	cost := float64(heap()-before) / float64(n)
	runtime.KeepAlive(all)
	return cost
}

// What an EndpointSlice of 5 endpoints costs in the cache.
func BenchmarkHeldSlice(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(held(b, 10000, func(i int) any { return decoded(b, bigSlice(i)) }), "B/whole")
		b.ReportMetric(held(b, 10000, func(i int) any { return stripped(b, decoded(b, bigSlice(i))) }), "B/stripped")
	}
}
