package proxier

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/balancer"

	"github.com/usher-proxy/usher/proxier/annotation"
)

// testFacts are those of node-1 with the address 192.0.2.1, in zone-a.
var testFacts = facts{
	defaults: &annotation.Settings{},
	nodeName: "node-1", zone: "zone-a",
	nodeIPs:       []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	local:         map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true},
	own:           map[uint16]bool{11000: true},
	allowExternal: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
}

func desireOf(objects ...any) *desired {
	m := memory{changed: make(chan struct{}, 1)}
	m.set(objects...)
	return desire(m.objects, testFacts)
}

// told prints the desired state of the objects on node-1, a line a port.
func told(objects ...any) (ports, problems string) {
	d := desireOf(objects...)
	var p, q []string
	for _, port := range d.ports {
		p = append(p, fmt.Sprintf("%s %v -> %s", port.ServicePort, port.Frontends, addresses(port.Cluster.Endpoints)))
	}
	for _, problem := range d.problems {
		q = append(q, fmt.Sprintf("%s %s: %s", problem.About, problem.Reason, problem.Message))
	}
	return strings.Join(p, "\n"), strings.Join(q, "\n")
}

func addresses(endpoints []balancer.Endpoint) string {
	var list []string
	for _, e := range endpoints {
		list = append(list, e.Addr.String())
	}
	return strings.Join(list, " ")
}

type condition = discoveryv1.EndpointConditions

func conditions(ready, serving, terminating bool) condition {
	return condition{Ready: &ready, Serving: &serving, Terminating: &terminating}
}

// podSlice is a slice of a Service with one endpoint.
func podSlice(service, name, ip string, c condition) *discoveryv1.EndpointSlice {
	s := slice(service, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), 8080))
	s.Name = name
	s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{ip}, Conditions: c}}
	return s
}

func TestDesiredPorts(t *testing.T) {
	ready, ghost := conditions(true, true, false), conditions(false, true, true)
	web := func(change ...func(*corev1.Service)) *corev1.Service {
		s := service("web", "10.96.0.10:80")
		for _, f := range change {
			f(s)
		}
		return s
	}
	one, other := podSlice("web", "one", "10.0.0.1", ready), podSlice("web", "other", "10.0.0.9", ready)
	for _, c := range []struct {
		name    string
		objects []any
		ports   string
		problem string // contained in the problems; empty: there are none
	}{
		{"a Service and its endpoint", []any{web(), one},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080", ""},
		{"no slices", []any{web()},
			"default/web [10.96.0.10:80] -> ", ""},
		{"a slice without a Service", []any{one}, "", ""},
		{"slices of another namespace are another Service's", []any{web(), func() any {
			s := podSlice("web", "one", "10.0.0.1", ready)
			s.Namespace = "other"
			return s
		}()}, "default/web [10.96.0.10:80] -> ", ""},
		{"the union of slices, sorted, without duplicates",
			[]any{web(), podSlice("web", "b", "10.0.0.2", ready), one, podSlice("web", "c", "10.0.0.2", ready)},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080 10.0.0.2:8080", ""},
		{"conditions that nobody set mean ready", []any{web(), podSlice("web", "one", "10.0.0.1", condition{})},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080", ""},
		{"unready and serving is not used", []any{web(), podSlice("web", "one", "10.0.0.1", conditions(false, true, false))},
			"default/web [10.96.0.10:80] -> ", ""},
		{"a ready one beats those that leave", []any{web(), one, podSlice("web", "two", "10.0.0.2", ghost)},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080", ""},
		{"those that leave and serve, where no other is left", []any{web(), podSlice("web", "two", "10.0.0.2", ghost)},
			"default/web [10.96.0.10:80] -> 10.0.0.2:8080", ""},
		{"those that leave and do not serve are not used", []any{web(), podSlice("web", "two", "10.0.0.2", conditions(false, false, true))},
			"default/web [10.96.0.10:80] -> ", ""},
		{"a live pod beats the ghost with its address", []any{web(), one, other, podSlice("web", "two", "10.0.0.1", ghost)},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080 10.0.0.9:8080", ""},
		{"in either order", []any{web(), podSlice("web", "two", "10.0.0.1", ghost), other, one},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080 10.0.0.9:8080", ""},
		{"in two slices, ready in one of them", []any{web(), podSlice("web", "two", "10.0.0.1", conditions(false, false, false)), one},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080", ""},
		{"in either order too", []any{web(), one, podSlice("web", "two", "10.0.0.1", conditions(false, false, false))},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080", ""},
		{"a NodePort", []any{web(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30080 }), one},
			"default/web [10.96.0.10:80 node port 30080] -> 10.0.0.1:8080", ""},
		{"headless", []any{web(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), one}, "", ""},
		{"ExternalName, even with a clusterIP", []any{web(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), one}, "", ""},
		{"a slice's port of another name", []any{web(func(s *corev1.Service) { s.Spec.Ports[0].Name = "http" }), one},
			"default/web:http [10.96.0.10:80] -> ", ""},
		{"leading zeros and spaces are read as Kubernetes does", []any{web(func(s *corev1.Service) { s.Spec.ClusterIP = " 010.096.0.010" }), one},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080", ""},
		{"both families, each with its own endpoints",
			[]any{web(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00::10"} }), one},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080\ndefault/web [[fd00::10]:80] -> ", ""},
		{"an SCTP port leaves the others alone", []any{web(func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "sctp", Port: 81, Protocol: corev1.ProtocolSCTP})
		}), one}, "default/web [10.96.0.10:80] -> 10.0.0.1:8080", "port sctp: SCTP is not served"},
		{"of two with one address the older keeps it", []any{
			web(func(s *corev1.Service) { s.CreationTimestamp = metav1.NewTime(time.Unix(200, 0)) }), one,
			func() any {
				s := service("old", "10.96.0.10:80")
				s.CreationTimestamp = metav1.NewTime(time.Unix(100, 0))
				return s
			}(),
		}, "default/old [10.96.0.10:80] -> ", "default/web AddressTaken"},
		{"an endpoint that is not an address", []any{web(), podSlice("web", "x", "nonsense", ready), one},
			"default/web [10.96.0.10:80] -> 10.0.0.1:8080", `endpoint nonsense is not used: not an IP address`},
		{"link-local", []any{web(), podSlice("web", "x", "169.254.169.254", ready)}, "default/web [10.96.0.10:80] -> ", "link-local"},
		{"loopback", []any{web(), podSlice("web", "x", "127.0.0.1", ready)}, "default/web [10.96.0.10:80] -> ", "loopback"},
		{"multicast", []any{web(), podSlice("web", "x", "224.0.0.1", ready)}, "default/web [10.96.0.10:80] -> ", "multicast"},
		{"unspecified", []any{web(), podSlice("web", "x", "0.0.0.0", ready)}, "default/web [10.96.0.10:80] -> ", "unspecified"},
		{"the Service itself", []any{service("web", "10.96.0.10:8080"), podSlice("web", "x", "10.96.0.10", ready)},
			"default/web [10.96.0.10:8080] -> ", "loop_detected"},
		{"another Service's NodePort on this node", []any{web(), podSlice("web", "x", "192.0.2.1", ready), func() any {
			s := service("np", "10.96.0.11:80")
			s.Spec.Ports[0].NodePort = 8080
			return s
		}()}, "default/np [10.96.0.11:80 node port 8080] -> \ndefault/web [10.96.0.10:80] -> ", "loop_detected"},
		{"the node itself is fine", []any{web(), podSlice("web", "x", "192.0.2.1", ready)},
			"default/web [10.96.0.10:80] -> 192.0.2.1:8080", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ports, problems := told(c.objects...)
			if ports != c.ports {
				t.Errorf("got\n%s\nwant\n%s", ports, c.ports)
			}
			if (c.problem == "") != (problems == "") || !strings.Contains(problems, c.problem) {
				t.Errorf("problems %q, want %q", problems, c.problem)
			}
		})
	}
}

func TestDesiredPortsOfListenerPortIsALoop(t *testing.T) {
	s := podSlice("web", "x", "192.0.2.1", condition{})
	*s.Ports[0].Port = 11000
	_, problems := told(service("web", "10.96.0.10:80"), s)
	if !strings.Contains(problems, "loop_detected") {
		t.Errorf("problems %q", problems)
	}
}

func TestEndpointKnowsItsPod(t *testing.T) {
	node, zone := "node-a", "zone-a"
	s := podSlice("web", "x", "10.0.0.1", condition{})
	s.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "web-1"}
	s.Endpoints[0].NodeName, s.Endpoints[0].Zone = &node, &zone
	if e := desireOf(service("web", "10.96.0.10:80"), s).ports[0].Cluster.Endpoints[0]; e.Pod != "default/web-1" || e.Node != node || e.Zone != zone {
		t.Errorf("endpoint %+v", e)
	}
}

// What one object gets wrong many times is told a few times and counted.
func TestManyProblemsOfOneObjectAreSummedUp(t *testing.T) {
	s := service("web", "10.96.0.10:80")
	for i := range 1000 {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, fmt.Sprintf("192.0.%d.%d", 3+i/250, 1+i%250))
	}
	other := service("other", "10.96.0.10:80")
	d := desireOf(s, other)
	_, problems := told(s, other)
	if len(d.problems) != maxProblems+2 || !strings.Contains(problems, "ExternalIPNotAllowed: and 990 more") || !strings.Contains(problems, "AddressTaken") {
		t.Errorf("%d problems:\n%s", len(d.problems), problems)
	}
}
