package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// explain asks the usher of the scene.
func (s *scene) explain(args ...string) (out string, code int) {
	out, faults, code := usher.Run(s.t, s.NS, append([]string{"explain", "--admin-socket=" + s.adminSocket()}, args...)...)
	return out + faults, code
}

// The rule that is printed is the one in the kernel, and it is told when that is gone.
func TestTheRuleOfAServiceIsExplained(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		s := newScene(t)
		s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
		s.start("--sync-period=10m", "--admin-socket="+s.adminSocket())
		served(t, s.client.NS, vip(10))
		out, code := s.explain("web", "--from", s.client.IPv4.String())
		rule := ""
		for line := range strings.Lines(s.Run("iptables-save", "-t", "nat")) {
			if strings.Contains(line, "-d 10.96.0.10/32") && strings.Contains(line, "REDIRECT") {
				rule = strings.TrimSpace(line)
			}
		}
		if code != 0 || rule == "" || !strings.Contains(out, rule) {
			t.Errorf("exit code %d\n%s\nthe rule is %s", code, out, rule)
		}
		if out, code := s.explain("web", "--vip", s.IPv4.String()); code != 0 || !strings.Contains(out, "--dport 30080") {
			t.Errorf("the NodePort: exit code %d\n%s", code, out)
		}
		for damage, missing := range map[string]string{
			"iptables -t nat -F USHER-SERVICES":                 "missing: " + rule,
			"iptables -t nat -D PREROUTING -j USHER-PREROUTING": "missing: -A PREROUTING -j USHER-PREROUTING",
		} {
			netns.Eventually(t, "it is told after "+damage, func() error {
				s.Run("sh", "-c", damage+" || true") // usher mends it soon
				if out, code := s.explain("web", "--from", s.client.IPv4.String()); code != 1 || !strings.Contains(out, "stop  rule") || !strings.Contains(out, missing) {
					return fmt.Errorf("exit code %d\n%s", code, out)
				}
				return nil
			})
		}
	})
}

// With bind, policy routes lead to the socket.
func TestTheRouteOfAServiceIsExplained(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start("--capture=bind", "--sync-period=10m", "--admin-socket="+s.adminSocket())
	served(t, s.client.NS, vip(10))
	if out, code := s.explain("web"); code != 0 || !strings.Contains(out, "local 10.96.0.10 table") || !strings.Contains(out, "dport 80") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	s.write("web.yaml", manifest("web", 10, 30080))
	netns.Eventually(t, "it is told that it has no endpoint", func() error {
		if out, code := s.explain("web"); code != 1 || !strings.Contains(out, "stop  listener") || !strings.Contains(out, "The client is refused") {
			return fmt.Errorf("exit code %d\n%s", code, out)
		}
		return nil
	})
}
