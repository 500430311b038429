package proxier

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/proxier/source"
)

// chaos changes a small cluster at random, in which everybody is in everybody's way:
// there are few names, addresses and ports, and they are those of frontends as well as
// of endpoints and of the node.
type chaos struct {
	*rand.Rand
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	facts    facts
	version  int
}

func newChaos(seed uint64) *chaos {
	c := &chaos{Rand: rand.New(rand.NewPCG(seed, 6)), services: map[string]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{}, facts: testFacts}
	c.facts.local, c.facts.own = maps.Clone(testFacts.local), map[uint16]bool{}
	return c
}

func (c *chaos) one(of ...string) string { return of[c.IntN(len(of))] }
func (c *chaos) chance(percent int) bool { return c.IntN(100) < percent }
func (c *chaos) name() string            { return fmt.Sprintf("s%d", c.IntN(8)) }
func (c *chaos) number() int32           { return int32(8080 + c.IntN(3)) }
func (c *chaos) address() string         { return fmt.Sprintf("10.96.0.%d", 1+c.IntN(6)) }
func (c *chaos) external() string        { return fmt.Sprintf("198.51.100.%d", 1+c.IntN(3)) }
func (c *chaos) meta(n string) metav1.ObjectMeta {
	c.version++
	return metav1.ObjectMeta{Namespace: c.one("a", "a", "b"), Name: n, ResourceVersion: fmt.Sprint(c.version)}
}

func (c *chaos) service() *corev1.Service {
	s := &corev1.Service{ObjectMeta: c.meta(c.name())}
	s.CreationTimestamp = metav1.NewTime(time.Unix(int64(c.IntN(4)), 0))
	s.Spec.ClusterIP, s.Spec.Type = c.one("None", "", c.address(), c.address(), c.address(), c.address(), "nonsense"), corev1.ServiceTypeClusterIP
	if c.chance(20) {
		s.Spec.ClusterIPs = []string{c.address(), c.one("fd00::1", "fd00::2", "10.96.0.1")}
	}
	for i := range 1 + c.IntN(2) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: c.one("", "http", fmt.Sprint("p", i)), Port: c.number(), Protocol: corev1.Protocol(c.one("TCP", "TCP", "UDP", "SCTP")),
		})
	}
	if c.chance(40) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Spec.Ports[0].NodePort = c.number()
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: c.one(c.external(), c.address(), "192.0.2.1", "x")}}
		if c.chance(50) {
			externalLocal(s)
			s.Spec.HealthCheckNodePort = c.number() - 8080
		}
		if c.chance(30) {
			s.Spec.LoadBalancerSourceRanges = []string{c.one("192.0.2.0/24", "10.0.0.0/8", "all")}
		}
	}
	if c.chance(30) {
		s.Spec.ExternalIPs = []string{c.external(), c.one(c.external(), "203.0.113.9")}
	}
	if c.chance(20) {
		s.Annotations = map[string]string{c.one("usher-proxy.io/drain-timeout", "usher-proxy.io/retries", "other"): c.one("1", "1s", "x")}
	}
	return s
}

func (c *chaos) slice() *discoveryv1.EndpointSlice {
	port, protocol, name := c.number()-c.Int32N(2)*8080, corev1.Protocol(c.one("TCP", "TCP", "UDP")), c.one("", "http", "p0")
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: c.meta(fmt.Sprintf("slice%d", c.IntN(12))), AddressType: discoveryv1.AddressType(c.one("IPv4", "IPv4", "IPv4", "IPv6", "FQDN")),
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	if port == 0 && c.chance(80) {
		port = c.number()
	}
	if c.chance(95) {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: c.name()}
	}
	for range c.IntN(4) {
		node, zone := c.one("node-1", "node-2", ""), c.one("zone-a", "zone-b")
		e := discoveryv1.Endpoint{
			Addresses:  []string{c.one("10.0.0.1", "10.0.0.2", "192.0.2.1", "192.0.2.7", "fd00::9", "nonsense", c.address(), c.external())},
			Conditions: conditions(c.chance(70), c.chance(70), c.chance(30)), NodeName: &node, Zone: &zone,
		}
		if c.chance(50) {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: c.one("pod-1", "pod-2")}
		}
		if c.chance(50) {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: c.one("zone-a", "zone-b")}}}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// change changes something, and says what.
func (c *chaos) change() string {
	key := func(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }
	switch n := c.IntN(100); {
	case n < 30:
		s := c.service()
		c.services[key(s)] = s
		return "Service " + key(s)
	case n < 40:
		k := oneOf(c, c.services)
		delete(c.services, k)
		return "without Service " + k
	case n < 70:
		s := c.slice()
		c.slices[key(s)] = s
		return "slice " + key(s)
	case n < 78:
		k := oneOf(c, c.slices)
		delete(c.slices, k)
		return "without slice " + k
	case n < 82:
		if k := oneOf(c, c.services); k != "" {
			c.services[k] = c.services[k].DeepCopy()
			return "again Service " + k
		}
	case n < 86:
		if k := oneOf(c, c.slices); k != "" {
			c.slices[k] = c.slices[k].DeepCopy()
			return "again slice " + k
		}
	case n < 91:
		c.facts.local = toggled(c.facts.local, netip.MustParseAddr(c.one("192.0.2.7", "10.0.0.1", "10.0.0.2")))
		return "an address of the node"
	case n < 93:
		c.facts.own = toggled(c.facts.own, uint16(c.number()))
		return "a port of our own"
	case n < 96:
		return "drained: " + c.drain()
	case n < 97:
		c.facts.zone = c.one("zone-a", "zone-b", "")
		return "the zone"
	case n < 98:
		c.facts.nodeIPs = []netip.Addr{netip.MustParseAddr(c.one("192.0.2.1", "198.51.100.1"))}
		return "the node's address"
	}
	return "nothing"
}

// drain drains something, or lets it be used again.
func (c *chaos) drain() string {
	t := target{service: serviceName{c.one("", "a", "b"), ""}, pod: c.one("a/pod-1", "b/pod-1", "a/pod-2")}
	if t.service.namespace != "" && c.chance(50) {
		t.service.name = c.name()
	}
	if c.chance(70) {
		t.pod, t.addr, t.port = "", netip.MustParseAddr(c.one("10.0.0.1", "10.0.0.2", "192.0.2.7", "fd00::9")), uint16(c.number())*uint16(c.IntN(2))
	}
	is := func(o override) bool { return o.target == t }
	if slices.ContainsFunc(c.facts.drained, is) {
		c.facts.drained = slices.DeleteFunc(slices.Clone(c.facts.drained), is)
	} else {
		c.facts.drained = append(slices.Clone(c.facts.drained), override{target: t, tenant: c.one("", "", "a/pod-1")})
	}
	return t.String()
}

// oneOf chooses a key, "" if there is none.
func oneOf[T any](c *chaos, objects map[string]T) string {
	if len(objects) == 0 {
		return ""
	}
	return c.one(slices.Sorted(maps.Keys(objects))...)
}

func toggled[T comparable](set map[T]bool, one T) map[T]bool {
	set = maps.Clone(set)
	if set[one] {
		delete(set, one)
	} else {
		set[one] = true
	}
	return set
}

func (c *chaos) objects() source.Objects {
	return source.Objects{Services: shuffled(c, c.services), Slices: shuffled(c, c.slices)}
}

func shuffled[T any](c *chaos, objects map[string]T) (list []T) {
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		list = append(list, objects[key])
	}
	c.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// sorted is what is told, whatever the order.
func sorted(problems []Problem) (list []string) {
	for _, p := range problems {
		list = append(list, fmt.Sprint(p))
	}
	slices.Sort(list)
	return list
}

// claimed tells who has what.
func claimed(d *desired) map[claim]ServicePort {
	owners := map[claim]ServicePort{}
	for c, w := range d.claims.by {
		owners[c] = w.servicePort()
	}
	return owners
}

// What a planner takes over from the pass before is what it would compute anew.
func TestAPlanThatIsKeptIsWhatItWouldBe(t *testing.T) {
	for seed := range uint64(20) {
		c, m := newChaos(seed), newPlanner()
		last := map[Key]*Port{}
		kept := 0
		for step := range 400 {
			var what []string
			for range 1 + c.IntN(3)*c.IntN(2) {
				what = append(what, c.change())
			}
			objects := c.objects()
			got, want := m.desire(objects, c.facts), desire(objects, c.facts)
			fail := func(format string, args ...any) {
				t.Fatalf("seed %d, step %d, %s: %s", seed, step, strings.Join(what, ", "), fmt.Sprintf(format, args...))
			}
			if len(got.ports) != len(want.ports) {
				fail("%d ports, want %d", len(got.ports), len(want.ports))
			}
			now := map[Key]*Port{}
			for i, p := range got.ports {
				if !reflect.DeepEqual(p, want.ports[i]) {
					fail("port %d is\n%+v, want\n%+v", i, *p, *want.ports[i])
				}
				if old := last[p.Key]; old != nil && reflect.DeepEqual(old, p) {
					kept++
					if old != p {
						fail("%s has not changed, and is another Port", p.Key)
					}
				}
				now[p.Key] = p
			}
			last = now
			if a, b := sorted(got.problems), sorted(want.problems); !slices.Equal(a, b) {
				fail("problems\n%s\nwant\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
			}
			if !reflect.DeepEqual(got.checks, want.checks) {
				fail("health checks %v, want %v", got.checks, want.checks)
			}
			if !reflect.DeepEqual(claimed(got), claimed(want)) {
				fail("claims %v, want %v", claimed(got), claimed(want))
			}
			if !maps.Equal(got.addresses, want.addresses) || !maps.Equal(got.listeners, want.listeners) {
				fail("addresses of the node: %v, %v", got.addresses, got.listeners)
			}
			for name, p := range want.planner.plans {
				if !slices.Equal(m.slicesOf(name), p.slices) {
					fail("slices of %v", name)
				}
			}
			if len(m.plans) != len(want.planner.plans) {
				fail("%d plans, want %d", len(m.plans), len(want.planner.plans))
			}
		}
		if kept == 0 {
			t.Errorf("seed %d: nothing was ever kept", seed)
		}
	}
}

// A pass in which nothing has changed costs next to nothing, and one in which one
// slice has changed computes one Service.
func TestAPassComputesWhatHasChanged(t *testing.T) {
	objects := cluster(100)
	m := newPlanner()
	first := m.desire(objects, testFacts)
	objects.Services, objects.Slices = slices.Clone(objects.Services), slices.Clone(objects.Slices)
	if again := m.desire(objects, testFacts); !sameList(first.ports, again.ports) {
		t.Error("nothing has changed, and the ports are listed again")
	}
	objects.Slices = slices.Clone(objects.Slices)
	objects.Slices[7] = changed(objects.Slices[7])
	if next := m.desire(objects, testFacts); len(next.ports) != 100 || next.ports[7] == first.ports[7] ||
		!slices.Equal(next.ports[8:], first.ports[8:]) || !slices.Equal(next.ports[:7], first.ports[:7]) {
		t.Error("one slice has changed, and not one Port")
	}
}
