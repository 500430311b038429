package cluster

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// Services ask for what usher has not got yet. Their owner learns that where an
// owner looks, and the rest is served.
func TestOwnersLearnWhatIsNotServed(t *testing.T) {
	c := newCluster(t)
	c.start()
	sticky := service("sticky")
	sticky.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	dns := service("dns")
	dns.Spec.Ports = append(dns.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP})
	c.api.Apply(sticky, slice(sticky, "1", c.Pods[0]), dns, slice(dns, "1", c.Pods[1]))

	c.isTold("sticky", "NotServed", "sessionAffinity ClientIP")
	c.isTold("dns", "NotServed", "UDP")
	c.answers(c.Client.NS, url(sticky), "pod-1")
	c.answers(c.Client.NS, url(dns), "pod-2")
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
