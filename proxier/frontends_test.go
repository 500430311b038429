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
)

// loadBalancer is a Service of type LoadBalancer with one address.
func loadBalancer(name, clusterIP, vip string, change ...func(*corev1.Service)) *corev1.Service {
	s := service(name, clusterIP+":80")
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.Ports[0].NodePort = 30080
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: vip}}
	for _, f := range change {
		f(s)
	}
	return s
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	s.Spec.HealthCheckNodePort = 32000
}

func born(second int64) func(*corev1.Service) {
	return func(s *corev1.Service) { s.CreationTimestamp = metav1.NewTime(time.Unix(second, 0)) }
}

func TestFrontends(t *testing.T) {
	mode := func(m corev1.LoadBalancerIPMode) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].IPMode = &m }
	}
	externalIPs := func(ips ...string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.ExternalIPs = ips }
	}
	const vip = "203.0.113.1"
	for _, c := range []struct {
		name     string
		services []any
		want     string // frontends, port by port
		problem  string
	}{
		{"an address of a load balancer", []any{loadBalancer("lb", "10.96.0.10", vip)},
			"[10.96.0.10:80 node port 30080 203.0.113.1:80]", ""},
		{"ipMode VIP", []any{loadBalancer("lb", "10.96.0.10", vip, mode(corev1.LoadBalancerIPModeVIP))},
			"[10.96.0.10:80 node port 30080 203.0.113.1:80]", ""},
		{"ipMode Proxy: the load balancer itself is to be reached", []any{loadBalancer("lb", "10.96.0.10", vip, mode(corev1.LoadBalancerIPModeProxy))},
			"[10.96.0.10:80 node port 30080]", ""},
		{"a load balancer with a name only", []any{loadBalancer("lb", "10.96.0.10", "", func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress[0].Hostname = "lb.example"
		})}, "[10.96.0.10:80 node port 30080]", ""},
		{"without NodePorts", []any{loadBalancer("lb", "10.96.0.10", vip, func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 })},
			"[10.96.0.10:80 203.0.113.1:80]", ""},
		{"the other family's addresses need a ClusterIP there", []any{loadBalancer("lb", "10.96.0.10", "2001:db8:1::1")},
			"[10.96.0.10:80 node port 30080]", ""},
		{"each family has its own", []any{loadBalancer("lb", "10.96.0.10", "2001:db8:1::1", func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00::10"}
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: vip})
		})}, "[10.96.0.10:80 node port 30080 203.0.113.1:80]\n[[fd00::10]:80 node port 30080 [2001:db8:1::1]:80]", ""},
		{"the node's own address", []any{loadBalancer("lb", "10.96.0.10", "192.0.2.1")},
			"[10.96.0.10:80 node port 30080]", "NodeAddress"},
		{"a loopback address", []any{loadBalancer("lb", "10.96.0.10", "127.0.0.1")},
			"[10.96.0.10:80 node port 30080]", "loopback"},
		{"an address that is none", []any{loadBalancer("lb", "10.96.0.10", "nonsense")},
			"[10.96.0.10:80 node port 30080]", "BadAddress"},
		{"two Services share an address on different ports", []any{loadBalancer("lb", "10.96.0.10", vip), loadBalancer("other", "10.96.0.11", vip, func(s *corev1.Service) {
			s.Spec.Ports[0].Port, s.Spec.Ports[0].NodePort = 81, 30081
		})}, "[10.96.0.10:80 node port 30080 203.0.113.1:80]\n[10.96.0.11:81 node port 30081 203.0.113.1:81]", ""},
		{"two Services claim the same: the older has it", []any{
			loadBalancer("young", "10.96.0.10", vip, born(200)),
			loadBalancer("old", "10.96.0.11", vip, born(100), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 }),
		}, "[10.96.0.11:80 203.0.113.1:80]\n[10.96.0.10:80 node port 30080]", "default/young AddressTaken: 203.0.113.1:80 is not served for default/young: default/old has it"},
		{"nobody takes a ClusterIP, however old", []any{
			loadBalancer("thief", "10.96.0.10", "10.96.0.11", born(100)), service("victim", "10.96.0.11:80"),
		}, "[10.96.0.11:80]\n[10.96.0.10:80 node port 30080]", "default/thief AddressTaken"},
		{"externalIPs, where they are allowed", []any{loadBalancer("ext", "10.96.0.10", vip, externalIPs("198.51.100.1", " 198.51.100.002 ", "", "2001:db8::1", "192.0.2.9", "x"))},
			"[10.96.0.10:80 node port 30080 203.0.113.1:80 198.51.100.1:80 198.51.100.2:80]", "externalIP 192.0.2.9 is not served"},
		{"an externalIP that is also the load balancer's", []any{loadBalancer("ext", "10.96.0.10", "198.51.100.1", externalIPs("198.51.100.1"))},
			"[10.96.0.10:80 node port 30080 198.51.100.1:80]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := desireOf(c.services...)
			var lines, problems []string
			for _, p := range d.ports {
				lines = append(lines, fmt.Sprint(p.Frontends))
			}
			for _, p := range d.problems {
				problems = append(problems, fmt.Sprintf("%s %s: %s", p.About, p.Reason, p.Message))
			}
			if got := strings.Join(lines, "\n"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if told := strings.Join(problems, "\n"); (c.problem == "") != (told == "") || !strings.Contains(told, c.problem) {
				t.Errorf("problems %q, want %q", told, c.problem)
			}
		})
	}
}

func TestPolicyFollowsTheAddressDialled(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	for _, c := range []struct {
		change func(*corev1.Service)
		want   map[Kind]Policy
	}{
		{func(*corev1.Service) {}, map[Kind]Policy{ClusterIP: Cluster, NodePort: Cluster, LoadBalancer: Cluster}},
		{externalLocal, map[Kind]Policy{ClusterIP: Cluster, NodePort: ExternalLocal, LoadBalancer: ExternalLocal}},
		{func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }, map[Kind]Policy{ClusterIP: InternalLocal, NodePort: Cluster, LoadBalancer: Cluster}},
	} {
		for _, f := range desireOf(loadBalancer("lb", "10.96.0.10", "203.0.113.1", c.change)).ports[0].Frontends {
			if f.Policy != c.want[f.Kind] {
				t.Errorf("%s %s has policy %s, want %s", f.Kind, f, f.Policy, c.want[f.Kind])
			}
		}
	}
	for policy, want := range map[Policy][2]Set{ // here, outside
		Cluster: {ClusterSet, ClusterSet}, InternalLocal: {LocalSet, LocalSet}, ExternalLocal: {ClusterSet, LocalSet},
	} {
		if got := [2]Set{policy.set(true), policy.set(false)}; got != want {
			t.Errorf("%s gives %v, want %v", policy, got, want)
		}
	}
}

func TestSourceRanges(t *testing.T) {
	for _, c := range []struct {
		ranges  []string
		v4, v6  string
		problem string
	}{
		{nil, "[]", "[]", ""},
		{[]string{"10.0.0.0/8", " 192.168.001.0/24 "}, "[10.0.0.0/8 192.168.1.0/24]", "[]", ""},
		{[]string{"fd00::/8"}, "[]", "[fd00::/8]", ""},
		{[]string{"10.0.0.0/8", "0.0.0.0/0", "fd00::/8"}, "[]", "[fd00::/8]", ""},
		{[]string{"0.0.0.0/1", "128.0.0.0/1"}, "[0.0.0.0/1 128.0.0.0/1 203.0.113.1/32]", "[]", ""}, // holds the node
		{[]string{"nonsense"}, "[]", "[]", "BadSourceRange"},
		{[]string{"192.0.2.0/24"}, "[192.0.2.0/24 203.0.113.1/32]", "[]", ""}, // the node's: also who has the VIP as its source
		{[]string{"10.1.2.3/8"}, "[10.0.0.0/8]", "[]", ""},
	} {
		d := desireOf(loadBalancer("lb", "10.96.0.10", "203.0.113.1", func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"10.96.0.10", "fd00::10"}
			s.Spec.LoadBalancerSourceRanges = c.ranges
		}))
		if got := fmt.Sprint(d.ports[0].SourceRanges); got != c.v4 {
			t.Errorf("%v: IPv4 %s, want %s", c.ranges, got, c.v4)
		}
		if got := fmt.Sprint(d.ports[1].SourceRanges); got != c.v6 {
			t.Errorf("%v: IPv6 %s, want %s", c.ranges, got, c.v6)
		}
		if told := fmt.Sprint(d.problems); (c.problem == "") != (told == "[]") || !strings.Contains(told, c.problem) || strings.Count(told, "BadSourceRange") > 1 {
			t.Errorf("%v: problems %s, want %q", c.ranges, told, c.problem)
		}
	}
}

func TestSourceRangesRestrictOnlyTheLoadBalancer(t *testing.T) {
	p := desireOf(loadBalancer("lb", "10.96.0.10", "203.0.113.1", func(s *corev1.Service) {
		s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/8"}
	})).ports[0]
	for _, f := range p.Frontends {
		for client, want := range map[string]bool{"10.1.1.1": true, "172.16.0.1": f.Kind != LoadBalancer} {
			if got := p.admits(netip.MustParseAddr(client), f); got != want {
				t.Errorf("%s admits %s: %v, want %v", f, client, got, want)
			}
		}
	}
}

func TestHealthChecks(t *testing.T) {
	here := func(ip string, c condition) any {
		s := podSlice("lb", "slice-"+ip, ip, c)
		node := "node-1"
		s.Endpoints[0].NodeName = &node
		return s
	}
	elsewhere := podSlice("lb", "elsewhere", "10.0.0.9", condition{})
	otherNumber := here("10.0.0.1", condition{}).(*discoveryv1.EndpointSlice)
	otherNumber.Name, *otherNumber.Ports[0].Port = "other-number", 9090
	for _, c := range []struct {
		name    string
		objects []any
		want    string
		problem string
	}{
		{"not for eTP Cluster", []any{loadBalancer("lb", "10.96.0.10", "203.0.113.1")}, "[]", ""},
		{"not for type NodePort", []any{loadBalancer("lb", "10.96.0.10", "203.0.113.1", externalLocal, func(s *corev1.Service) {
			s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeNodePort, 0
		})}, "[]", ""},
		{"nothing here", []any{loadBalancer("lb", "10.96.0.10", "203.0.113.1", externalLocal), elsewhere}, "[{{default lb} 32000 map[4:0]}]", ""},
		{"two here", []any{loadBalancer("lb", "10.96.0.10", "203.0.113.1", externalLocal), elsewhere, here("10.0.0.1", condition{}), here("10.0.0.2", condition{})},
			"[{{default lb} 32000 map[4:2]}]", ""},
		{"what terminates does not count", []any{loadBalancer("lb", "10.96.0.10", "203.0.113.1", externalLocal), here("10.0.0.1", conditions(false, true, true))},
			"[{{default lb} 32000 map[4:0]}]", ""},
		{"addresses count, not ports", []any{loadBalancer("lb", "10.96.0.10", "203.0.113.1", externalLocal), here("10.0.0.1", condition{}), otherNumber},
			"[{{default lb} 32000 map[4:1]}]", ""},
		{"without a port for it", []any{loadBalancer("lb", "10.96.0.10", "203.0.113.1", externalLocal, func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 0 })},
			"[]", "NoHealthCheckNodePort"},
	} {
		d := desireOf(c.objects...)
		if got := fmt.Sprint(d.checks); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if told := fmt.Sprint(d.problems); (c.problem == "") != (told == "[]") || !strings.Contains(told, c.problem) {
			t.Errorf("%s: problems %s, want %q", c.name, told, c.problem)
		}
	}
}
