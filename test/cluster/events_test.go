package cluster

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// Services ask for what usher does not serve. Their owner learns that where an
// owner looks, and the rest is served.
func TestOwnersLearnWhatIsNotServed(t *testing.T) {
	c := newCluster(t)
	c.start()
	sctp := service("sctp")
	sctp.Spec.Ports = append(sctp.Spec.Ports, corev1.ServicePort{Name: "diameter", Port: 3868, Protocol: corev1.ProtocolSCTP})
	grabbing := service("grabbing")
	grabbing.Spec.ExternalIPs = []string{"192.0.2.7"}
	older, younger := balanced("older", 32000), balanced("younger", 32001)
	taken := c.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:32001"))
	defer taken.Close()
	c.api.Apply(sctp, slice(sctp, "1", c.Pods[0]), grabbing, slice(grabbing, "1", c.Pods[1]), older, onThisNode(slice(older, "1", c.Pods[0])))
	c.answers(c.Client.NS, "http://203.0.113.1", "pod-1")
	time.Sleep(time.Second) // the age of objects has no finer grain
	c.api.Apply(younger, onThisNode(slice(younger, "1", c.Pods[1])))

	c.isTold("sctp", "NotServed", "SCTP")
	c.isTold("grabbing", "ExternalIPNotAllowed", "192.0.2.7")
	c.isTold("younger", "AddressTaken", "203.0.113.1:80", "default/older")
	c.isTold("younger", "FailedToStartServiceHealthcheck", "32001")
	for s, pod := range map[*corev1.Service]string{sctp: "pod-1", grabbing: "pod-2", older: "pod-1", younger: "pod-2"} {
		c.answers(c.Client.NS, url(s), pod)
	}
	c.answers(c.Client.NS, "http://203.0.113.1", "pod-1")
}

// balanced is a Service of type LoadBalancer at an address that others have too.
func balanced(name string, healthCheckNodePort int32) *corev1.Service {
	s := service(name)
	s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	s.Spec.HealthCheckNodePort = healthCheckNodePort
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
	return s
}

func onThisNode(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	for i := range s.Endpoints {
		s.Endpoints[i].NodeName = new("node")
	}
	return s
}

// isTold waits until "kubectl describe" shows an event with these words.
func (c *cluster) isTold(service string, words ...string) {
	c.t.Helper()
	netns.Eventually(c.t, "an event of "+service, func() error {
		_, events, _ := strings.Cut(c.kubectl.run(c.NS, "describe", "service", service), "\nEvents:")
		for line := range strings.Lines(events) {
			if containsAll(line, words) {
				return nil
			}
		}
		return fmt.Errorf("none with %q:\n%s", words, events)
	})
}

func containsAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}
