package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/test/netns"
)

// A Service is changed field by field, from everything set to nothing and back,
// while clients connect to each of its addresses all the time. The only ones
// that may fail are those whose address a change takes away.
func TestEveryFieldChangesUnderConnectingClients(t *testing.T) {
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6, netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.51.100.0/24"))
	for _, pod := range s.pods {
		pod.ServeHTTP(pod.Name, pod.AddrPort6(8080))
		pod.ServeHTTP(pod.Name, pod.AddrPort4(8081))
		pod.ServeHTTP(pod.Name, pod.AddrPort6(8081))
	}
	f := &fields{scene: s, t: t, service: everything(), slices: s.slicesOf("http", "admin")}
	f.apply()
	s.start("--node-name=node-1", "--allow-external-ips=198.51.100.0/24")
	clients := []*connecting{
		f.connect("a pod to the ClusterIP", s.client.NS, "10.96.0.50:80"),
		f.connect("a pod to the IPv6 ClusterIP", s.routed.NS, "[fd00:10:96::50]:80"),
		f.connect("the node to the ClusterIP", s.NS, "10.96.0.50:80"),
		f.connect("outside to the NodePort", s.Client, "192.0.2.1:30080"),
		f.connect("outside to the load balancer", s.Client, "203.0.113.50:80"),
		f.connect("outside to the externalIP", s.Client, "198.51.100.50:80"),
	}
	spec := &f.service.Spec
	const v6, nodePort, lb, external = 1, 3, 4, 5 // of the clients
	for _, step := range []struct {
		name   string
		change func()
		gone   []int // clients whose address is gone
	}{
		{"nothing", func() {}, nil},
		{"affinity timeout", func() { *spec.SessionAffinityConfig.ClientIP.TimeoutSeconds = 1 }, nil},
		{"affinity off", func() { spec.SessionAffinity, spec.SessionAffinityConfig = corev1.ServiceAffinityNone, nil }, nil},
		{"internalTrafficPolicy", func() { *spec.InternalTrafficPolicy = corev1.ServiceInternalTrafficPolicyCluster }, nil},
		{"source ranges: others too", func() { spec.LoadBalancerSourceRanges = append(spec.LoadBalancerSourceRanges, "10.0.0.0/8") }, nil},
		{"source ranges: of the other family only", func() { spec.LoadBalancerSourceRanges = []string{"2001:db8::/32"} }, nil},
		{"source ranges: none", func() { spec.LoadBalancerSourceRanges = nil }, nil},
		{"healthCheckNodePort", func() { spec.HealthCheckNodePort = 32001 }, nil},
		{"externalTrafficPolicy", func() {
			spec.ExternalTrafficPolicy, spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyCluster, 0
		}, nil},
		{"trafficDistribution", func() { spec.TrafficDistribution = nil }, nil},
		{"publishNotReadyAddresses", func() { spec.PublishNotReadyAddresses = false }, nil},
		{"a second address of the load balancer", func() { f.ingress("203.0.113.50", "203.0.113.51") }, nil},
		{"and it proxies", func() {
			proxy := corev1.LoadBalancerIPModeProxy
			f.service.Status.LoadBalancer.Ingress[1].IPMode = &proxy
		}, nil},
		{"and it is gone", func() { f.ingress("203.0.113.50") }, nil},
		{"a second externalIP", func() { spec.ExternalIPs = append(spec.ExternalIPs, "198.51.100.51") }, nil},
		{"targetPort, which a proxy does not read", func() { spec.Ports[0].TargetPort.IntVal = 4711 }, nil},
		{"the endpoints' port", func() { f.slices = s.slicesOf("http:8081", "admin") }, nil},
		{"the other port's number", func() { spec.Ports[1].Port = 82 }, nil},
		{"the other port's NodePort", func() { spec.Ports[1].NodePort = 30082 }, nil},
		{"the port's name", func() { spec.Ports[0].Name, f.slices = "web", s.slicesOf("web", "admin") }, nil},
		{"the ports' order", func() { slices.Reverse(spec.Ports) }, nil},
		{"one port less", func() { spec.Ports = spec.Ports[1:] }, nil},
		{"no port's name", func() { spec.Ports[0].Name, f.slices = "", s.slicesOf("") }, nil},
		{"without the load balancer's address", func() { f.ingress() }, []int{lb}},
		{"and again", func() { f.ingress("203.0.113.50") }, nil},
		{"without the externalIP", func() { spec.ExternalIPs = nil }, []int{external}},
		{"and again", func() { spec.ExternalIPs = []string{"198.51.100.50"} }, nil},
		{"without the second family", func() {
			one := corev1.IPFamilyPolicySingleStack
			spec.ClusterIPs, spec.IPFamilies, spec.IPFamilyPolicy = spec.ClusterIPs[:1], spec.IPFamilies[:1], &one
		}, []int{v6}},
		{"and again", func() {
			spec.ClusterIPs, spec.IPFamilies, spec.IPFamilyPolicy = everything().Spec.ClusterIPs, everything().Spec.IPFamilies, everything().Spec.IPFamilyPolicy
		}, nil},
		{"type NodePort", func() { spec.Type = corev1.ServiceTypeNodePort; f.ingress() }, []int{lb}},
		{"type ClusterIP", func() { spec.Type, spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0 }, []int{lb, nodePort}},
		{"type LoadBalancer", func() {
			spec.Type, spec.Ports[0].NodePort = corev1.ServiceTypeLoadBalancer, 30080
			f.ingress("203.0.113.50")
		}, nil},
		{"everything again", func() { *f.service = *everything(); f.slices = s.slicesOf("http", "admin") }, nil},
	} {
		for _, i := range step.gone {
			clients[i].pause()
		}
		step.change()
		f.apply()
		f.await()
		for i, c := range clients {
			if !slices.Contains(step.gone, i) {
				c.goOn(step.name)
			}
		}
	}
	for _, c := range clients {
		c.pause()
		t.Logf("%s: %d connections, %d failed", c.name, c.made.Load(), c.failed.Load())
	}
}

// everything is a Service in which every field says something.
func everything() *corev1.Service {
	both, local, near, hour := corev1.IPFamilyPolicyRequireDualStack, corev1.ServiceInternalTrafficPolicyLocal, corev1.ServiceTrafficDistributionPreferClose, int32(3600)
	vip, yes := corev1.LoadBalancerIPModeVIP, true
	port := func(name string, number, nodePort int32) corev1.ServicePort {
		app := "http"
		return corev1.ServicePort{Name: name, Port: number, NodePort: nodePort, Protocol: corev1.ProtocolTCP, AppProtocol: &app}
	}
	class := "example.com/none"
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "fields", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.50", ClusterIPs: []string{"10.96.0.50", "fd00:10:96::50"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, IPFamilyPolicy: &both,
			Ports:           []corev1.ServicePort{port("http", 80, 30080), port("admin", 81, 30081)},
			ExternalIPs:     []string{"198.51.100.50"},
			SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &hour}},
			LoadBalancerSourceRanges: []string{"192.0.2.0/24"}, LoadBalancerClass: &class, AllocateLoadBalancerNodePorts: &yes,
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: 32000,
			InternalTrafficPolicy: &local, TrafficDistribution: &near, PublishNotReadyAddresses: true,
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.50", IPMode: &vip}}}},
	}
}

// slicesOf are the slices of both families for ports by name, on 8080 or
// name:8081. All endpoints are on this node.
func (s *scene) slicesOf(ports ...string) (list []any) {
	node, tcp, ready := "node-1", corev1.ProtocolTCP, true
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		slice := &discoveryv1.EndpointSlice{
			TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "fields"}},
			AddressType: family,
		}
		slice.Name = map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "fields-v4", discoveryv1.AddressTypeIPv6: "fields-v6"}[family]
		for _, text := range ports {
			name, number := text, int32(8080)
			if before, ok := strings.CutSuffix(text, ":8081"); ok {
				name, number = before, 8081
			}
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &tcp})
		}
		for _, pod := range s.pods {
			ip := pod.IPv4
			if family == discoveryv1.AddressTypeIPv6 {
				ip = pod.IPv6
			}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{ip.String()}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			})
		}
		list = append(list, slice)
	}
	return list
}

// fields is the Service that changes.
type fields struct {
	*scene
	t       *testing.T
	service *corev1.Service
	slices  []any
	step    int32
}

func (f *fields) ingress(ips ...string) {
	f.service.Status.LoadBalancer.Ingress = nil
	for _, ip := range ips {
		f.service.Status.LoadBalancer.Ingress = append(f.service.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
}

// apply writes everything into one file, with a mark by which to see when it is
// in force: a Service of which only the port changes.
func (f *fields) apply() {
	f.t.Helper()
	f.step++
	mark := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mark"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.51", Ports: []corev1.ServicePort{{Port: 1000 + f.step}}},
	}
	var text []byte
	for _, o := range append([]any{f.service, mark}, f.slices...) {
		y, err := yaml.Marshal(o)
		if err != nil {
			f.t.Fatal(err)
		}
		text = append(append(text, "---\n"...), y...)
	}
	f.write("fields.yaml", string(text))
}

// await waits until what apply wrote last is in force: without endpoints, the
// mark's port refuses.
func (f *fields) await() {
	f.t.Helper()
	netns.Eventually(f.t, fmt.Sprintf("step %d is in force", f.step), func() error {
		err := connect(f.t, f.client.NS, fmt.Sprintf("http://10.96.0.51:%d", 1000+f.step))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("the mark answers %v", err)
		}
		return nil
	})
}

// connecting is a client that connects all the time.
type connecting struct {
	name string
	t    *testing.T
	from *netns.NS
	to   string

	made, failed atomic.Int64
	cancel       context.CancelFunc
	ended        sync.WaitGroup
}

func (f *fields) connect(name string, from *netns.NS, to string) *connecting {
	c := &connecting{name: name, t: f.t, from: from, to: to}
	netns.Eventually(f.t, name, func() error { return connect(f.t, from, "http://"+to) })
	c.start("the start")
	f.t.Cleanup(c.pause)
	return c
}

// start makes the client connect until pause. What fails from now on fails the
// test.
func (c *connecting) start(step string) {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.ended.Go(func() {
		for ctx.Err() == nil {
			if err := c.once(ctx); err != nil && ctx.Err() == nil {
				c.failed.Add(1)
				c.t.Errorf("%s, after %s: %v", c.name, step, err)
				return
			}
			c.made.Add(1)
		}
	})
}

func (c *connecting) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := c.from.DialContext(ctx, "tcp", c.to)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if len(answer) == 0 && err == nil {
		return errors.New("an empty answer")
	}
	if errors.Is(err, net.ErrClosed) {
		return ctx.Err()
	}
	return err
}

func (c *connecting) pause() {
	if c.cancel != nil {
		c.cancel()
	}
	c.ended.Wait()
	c.cancel = nil
}

// goOn waits until a few connections have been made since now, by a client that
// is started again if it was paused.
func (c *connecting) goOn(step string) {
	c.t.Helper()
	if c.cancel == nil {
		netns.Eventually(c.t, c.name+" after "+step, func() error { return connect(c.t, c.from, "http://"+c.to) })
		c.start(step)
	}
	before := c.made.Load()
	netns.Eventually(c.t, c.name+" goes on after "+step, func() error {
		if c.failed.Load() > 0 {
			return nil // it has been told
		}
		if made := c.made.Load() - before; made < 5 {
			return fmt.Errorf("%d connections", made)
		}
		return nil
	})
}
