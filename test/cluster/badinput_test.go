package cluster

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// A badInput is what the API server accepts and a proxy cannot use as it is: a
// Service that pod-1 serves, with one more slice, which has pod-2.
type badInput struct {
	name    string // of the Service
	change  func(*corev1.Service, *discoveryv1.EndpointSlice)
	says    []string // words of the one line of the log about it; none: there is no such line
	answers []string // who serves the Service, if that is known beforehand
	then    func(*cluster, *corev1.Service)
}

// Whatever the API server lets pass, it costs nothing else, and usher says so
// once.
func TestBadInput(t *testing.T) {
	c := newCluster(t)
	u := c.startWith("--kubeconfig="+c.api.Usher.Kubeconfig, "--allow-external-ips=198.51.100.0/24,2001:db8:2::/64")
	healthy := c.serve("healthy", c.Pods[2])
	c.answers(c.Client.NS, healthy, "pod-3")
	curls := c.ask(&place{from: c.Client.NS, url: healthy})
	for _, bad := range badInputs(c.Pods[2]) {
		c.story(bad.name, func(c *cluster) {
			c.tryBadInput(u, bad)
			curls.goOn()
		})
	}
}

func (c *cluster) tryBadInput(u *usher.Process, bad badInput) {
	before := len(u.Log())
	s := service(bad.name)
	more := slice(s, "more", c.Pods[1])
	good := slice(s, "good", c.Pods[0])
	bad.change(s, more)
	c.api.Apply(s, good, more)
	if bad.answers != nil {
		c.answers(c.Client.NS, url(s), bad.answers...)
	}
	if bad.then != nil {
		bad.then(c, s)
	}

	// Everything is looked at once more, and that is no news.
	c.answers(c.Client.NS, c.serve("after-"+bad.name, c.Pods[2]), "pod-3")
	if got := complaints(u.Log()[before:]); !isOnly(got, bad.says) {
		c.t.Errorf("usher says\n%s\nwant one line with %q, or none without words", strings.Join(got, "\n"), bad.says)
	}
}

// complaints are the warnings and errors of a log, without those about a
// connection.
func complaints(log string) (list []string) {
	for line := range strings.Lines(log) {
		bad := strings.Contains(line, `"level":"warning"`) || strings.Contains(line, `"level":"error"`)
		if bad && !strings.Contains(line, `"event":"conn.`) {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

// isOnly tells whether there is one line and it has all words, or no line if
// there are no words.
func isOnly(lines, words []string) bool {
	if len(words) == 0 {
		return len(lines) == 0
	}
	return len(lines) == 1 && containsAll(lines[0], words)
}

func badInputs(pod3 *netns.Pod) []badInput {
	return []badInput{
		{
			name: "slice-of-no-service",
			change: func(_ *corev1.Service, more *discoveryv1.EndpointSlice) {
				delete(more.Labels, discoveryv1.LabelServiceName)
			},
			says:    []string{"EndpointSlice default/slice-of-no-service-more", "SliceIgnored", discoveryv1.LabelServiceName},
			answers: []string{"pod-1"},
		},
		{
			name: "slice-of-host-names",
			change: func(_ *corev1.Service, more *discoveryv1.EndpointSlice) {
				more.AddressType, more.Endpoints[0].Addresses = discoveryv1.AddressTypeFQDN, []string{"pod-2.example"}
			},
			says:    []string{"EndpointSlice default/slice-of-host-names-more", "SliceIgnored", "FQDN"},
			answers: []string{"pod-1"},
		},
		{
			name: "port-without-number",
			change: func(s *corev1.Service, more *discoveryv1.EndpointSlice) {
				admin, number := "admin", int32(8081)
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: admin, Port: 81})
				more.Ports[0].Port = nil
				more.Ports = append(more.Ports, discoveryv1.EndpointPort{Name: &admin, Port: &number})
			},
			says:    []string{"EndpointSlice default/port-without-number-more", "SliceIgnored", "ports[0]"},
			answers: []string{"pod-1"},
			then: func(c *cluster, s *corev1.Service) { // the other port of that slice
				c.answers(c.Client.NS, url(s)+":81", "pod-2-alt")
			},
		},
		{
			name: "port-without-name",
			change: func(_ *corev1.Service, more *discoveryv1.EndpointSlice) {
				more.Ports[0].Name = nil // the API server makes it an empty one
			},
			answers: []string{"pod-1"},
		},
		{
			name: "two-addresses",
			change: func(_ *corev1.Service, more *discoveryv1.EndpointSlice) {
				more.Endpoints[0].Addresses = append(more.Endpoints[0].Addresses, pod3.IPv4.String())
			},
			answers: []string{"pod-1", "pod-2"},
		},
		{
			name: "other-family",
			change: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
				s.Spec.Type = corev1.ServiceTypeLoadBalancer
				s.Spec.ExternalIPs = []string{"2001:db8:2::20", "198.51.100.20"}
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "2001:db8:1::20"}, {IP: "203.0.113.20"}}
			},
			answers: []string{"pod-1", "pod-2"},
			then: func(c *cluster, _ *corev1.Service) {
				c.answers(c.Client.NS, "http://198.51.100.20", "pod-1", "pod-2")
				c.answers(c.Client.NS, "http://203.0.113.20", "pod-1", "pod-2")
				c.unanswered(c.Client.NS, "http://[2001:db8:1::20]")
				c.unanswered(c.Client.NS, "http://[2001:db8:2::20]")
			},
		},
		{
			name: "affinity-without-timeout", // the API server makes it three hours
			change: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
				s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			},
			then: func(c *cluster, s *corev1.Service) {
				netns.Eventually(c.t, "one pod answers", func() error {
					err := answeredBy(c.Client.NS, url(s), []string{"pod-1"})
					if err != nil {
						err = answeredBy(c.Client.NS, url(s), []string{"pod-2"})
					}
					return err
				})
			},
		},
		{
			name: "sctp",
			change: func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "signal", Port: 82, Protocol: corev1.ProtocolSCTP})
			},
			says:    []string{"Service default/sctp", "NotServed", "signal: SCTP"},
			answers: []string{"pod-1", "pod-2"},
		},
	}
}
