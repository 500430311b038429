package node

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// A badInput is something in bad.yaml that ought not to be there. It concerns
// the Service "bad".
type badInput struct {
	name string
	text string
	says []string     // words of the one line of the log about it; none: there is no such line
	then func(*scene) // what becomes of the Service
}

// Whatever is wrong with an object, it costs nothing else, not even what is
// beside it in its file, and usher says so once. Files are checked as the API
// server would check an object: what it would refuse is told with its line.
func TestBadInput(t *testing.T) {
	s := newScene(t)
	s.write("healthy.yaml", manifest("healthy", 10, 30080, s.pods[0].IPv4))
	u := s.start("--allow-external-ips=198.51.100.0/24,2001:db8:2::/64")
	for _, bad := range slices.Concat(badAddresses(s), badSlices(s), badServices(s)) {
		t.Run(bad.name, func(t *testing.T) {
			own := *s
			own.t = t
			own.try(u, bad)
		})
	}
}

const badNumber = 20 // of the Service "bad"

func (s *scene) try(u *usher.Process, bad badInput) {
	before := len(u.Log())
	healthy := &connecting{name: "a client of a healthy Service", t: s.t, from: s.client.NS, to: "10.96.0.10:80"}
	defer healthy.pause()
	healthy.goOn("nothing")
	s.write("bad.yaml", bad.text+"---\n"+manifest("beside", badNumber+1, 30091, s.pods[1].IPv4))
	served(s.t, s.client.NS, vip(badNumber+1))
	bad.then(s)

	// Everything is looked at once more, and that is no news.
	s.write("next.yaml", manifest("next", badNumber+2, 30092, s.pods[0].IPv4))
	defer s.takeBack("bad.yaml", "next.yaml")
	served(s.t, s.client.NS, vip(badNumber+2))
	bad.then(s)
	healthy.goOn("everything")
	if got := complaints(u.Log()[before:]); !isOnly(got, bad.says) {
		s.t.Errorf("usher says\n%s\nwant one line with %q, or none without words", strings.Join(got, "\n"), bad.says)
	}
}

// takeBack removes files and waits until nobody serves the Service "beside" any
// more.
func (s *scene) takeBack(files ...string) {
	for _, f := range files {
		s.remove(f)
	}
	netns.Eventually(s.t, "what was in the files is gone", func() error {
		if connect(s.t, s.client.NS, vip(badNumber+1)) == nil {
			return errors.New("it is still served")
		}
		return nil
	})
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
	return len(lines) == 1 && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(lines[0], w) })
}

// bad is the Service "bad" with more fields in its spec, from line 6 on. pod-1
// serves it.
func (s *scene) bad(fields ...string) string {
	var more strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&more, "  %s\n", f)
	}
	text := manifest("bad", badNumber, 30090, s.pods[0].IPv4)
	return strings.Replace(text, "spec:\n", "spec:\n"+more.String(), 1)
}

// badLoadBalancer is that Service as one of that type, with its status in line 5
// and the spec from line 6 on.
func (s *scene) badLoadBalancer(ingress string, fields ...string) string {
	return strings.NewReplacer(
		"spec:\n", fmt.Sprintf("status: {loadBalancer: {ingress: [{ip: %s}]}}\nspec:\n", ingress),
		"type: NodePort", "type: LoadBalancer",
	).Replace(s.bad(fields...))
}

// badSlice is the Service "bad" with one more slice, in which pod-2 is and some
// texts are others. Its metadata are in line 19.
func (s *scene) badSlice(oldnew ...string) string {
	slice := fmt.Sprintf(`---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bad-2, labels: {kubernetes.io/service-name: bad}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [%s]}]
`, s.pods[1].IPv4)
	return s.bad() + strings.NewReplacer(oldnew...).Replace(slice)
}

// notServed expects that nobody answers for the Service.
func notServed(s *scene) {
	s.t.Helper()
	if connect(s.t, s.client.NS, vip(badNumber)) == nil {
		s.t.Errorf("%s is served out of nowhere", vip(badNumber))
	}
}

// by expects that exactly these pods answer for the Service.
func by(names ...string) func(*scene) {
	return func(s *scene) {
		s.t.Helper()
		netns.Eventually(s.t, fmt.Sprintf("%v answer", names), func() error {
			if got, err := s.who(); err != nil || !slices.Equal(got, names) {
				return fmt.Errorf("%v answer, %w", got, err)
			}
			return nil
		})
	}
}

// who answers for the Service "bad", sorted.
func (s *scene) who() ([]string, error) {
	if err := connect(s.t, s.client.NS, vip(badNumber)); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for range 16 {
		answer, err := s.client.Get(vip(badNumber))
		if err != nil {
			return nil, err
		}
		seen[answer] = true
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

func badAddresses(s *scene) []badInput {
	return []badInput{
		{
			name: "leading zeros: the numbers are decimal",
			text: strings.NewReplacer("10.96.0.20", "10.096.000.020", s.pods[0].IPv4.String(), "010.244.001.002").
				Replace(s.bad("externalIPs: [198.051.100.020]")),
			then: func(s *scene) {
				by("pod-1")(s)
				served(s.t, s.client.NS, "http://198.51.100.20")
			},
		},
		{
			name: "an externalIP that is no address",
			text: s.bad("externalIPs: [198.51.100.300]"),
			says: []string{"bad.yaml:6: Service bad: spec.externalIPs[0]", "198.51.100.300"},
			then: notServed,
		},
		{
			name: "an empty externalIP",
			text: s.bad(`externalIPs: [198.51.100.20, ""]`),
			says: []string{"bad.yaml:6: Service bad: spec.externalIPs[1]"},
			then: notServed,
		},
		{
			name: "a source range that is no CIDR",
			text: s.badLoadBalancer("203.0.113.20", "loadBalancerSourceRanges: [10.0.0.0/8, 10.0.0.0/33]"),
			says: []string{"bad.yaml:7: Service bad: spec.loadBalancerSourceRanges[1]", "10.0.0.0/33"},
			then: notServed,
		},
		{
			name: "an empty source range",
			text: s.badLoadBalancer("203.0.113.20", `loadBalancerSourceRanges: [""]`),
			says: []string{"bad.yaml:7: Service bad: spec.loadBalancerSourceRanges[0]"},
			then: notServed,
		},
		{
			name: "a load balancer's address that is none",
			text: s.badLoadBalancer("203.0.113"),
			says: []string{"bad.yaml:5: Service bad: status.loadBalancer.ingress[0].ip", "203.0.113"},
			then: notServed,
		},
		{
			name: "external addresses of a family that the Service has not got",
			text: s.badLoadBalancer(`"2001:db8:1::20"}, {ip: 203.0.113.20`, `externalIPs: ["2001:db8:2::20", 198.51.100.20]`),
			then: onlyIPv4,
		},
		{
			name: "a clusterIP of another family than ipFamilies says",
			text: s.bad("ipFamilies: [IPv6]"),
			says: []string{"bad.yaml:6: Service bad: spec.ipFamilies[0]"},
			then: notServed,
		},
		{
			name: "an endpoint of another family than its slice",
			text: s.badSlice(s.pods[1].IPv4.String(), `"`+s.pods[1].IPv6.String()+`"`),
			says: []string{"bad.yaml:22: EndpointSlice bad-2: endpoints[0].addresses[0]", s.pods[1].IPv6.String()},
			then: by("pod-1"),
		},
	}
}

// onlyIPv4 expects that of the Service's addresses those of its family are
// served.
func onlyIPv4(s *scene) {
	s.t.Helper()
	by("pod-1")(s)
	served(s.t, s.client.NS, "http://198.51.100.20")
	served(s.t, s.client.NS, "http://203.0.113.20")
	for _, url := range []string{"http://[2001:db8:1::20]", "http://[2001:db8:2::20]"} {
		if connect(s.t, s.client.NS, url) == nil {
			s.t.Errorf("%s is served", url)
		}
	}
}

func badSlices(s *scene) []badInput {
	return []badInput{
		{
			name: "a slice of no Service",
			text: s.badSlice(", labels: {kubernetes.io/service-name: bad}", ""),
			says: []string{"bad.yaml:19: EndpointSlice bad-2: metadata.labels[kubernetes.io/service-name]"},
			then: by("pod-1"),
		},
		{
			name: "a slice without a name",
			text: s.badSlice("name: bad-2, ", ""),
			says: []string{"bad.yaml:19: EndpointSlice", "metadata.name"},
			then: by("pod-1"),
		},
		{
			name: "a slice without a namespace: the one named default",
			text: s.badSlice(),
			then: by("pod-1", "pod-2"),
		},
		{
			name: "a slice of host names",
			text: s.badSlice("addressType: IPv4", "addressType: FQDN", s.pods[1].IPv4.String(), "pod-2.example"),
			says: []string{"EndpointSlice default/bad-2", "SliceIgnored", "FQDN"},
			then: by("pod-1"),
		},
		{
			name: "a slice port without a name: its name is empty",
			text: s.badSlice("{name: http, port: 8080}", "{port: 8080}"),
			then: by("pod-1"),
		},
		{
			name: "two slice ports of which one has no name",
			text: s.badSlice("{name: http, port: 8080}", "{name: http, port: 8080}, {port: 8081}"),
			says: []string{"bad.yaml:21: EndpointSlice bad-2: ports[1].name"},
			then: by("pod-1"),
		},
		{
			name: "a slice port without a number",
			text: s.badSlice("{name: http, port: 8080}", "{name: http}"),
			says: []string{"bad.yaml:21: EndpointSlice bad-2: ports[0].port"},
			then: by("pod-1"),
		},
		{
			name: "a slice port number 0",
			text: s.badSlice("port: 8080", "port: 0"),
			says: []string{"bad.yaml:21: EndpointSlice bad-2: ports[0].port", "not 0"},
			then: by("pod-1"),
		},
		{
			name: "an endpoint without an address",
			text: s.badSlice(s.pods[1].IPv4.String(), ""),
			says: []string{"bad.yaml:22: EndpointSlice bad-2: endpoints[0].addresses"},
			then: by("pod-1"),
		},
		{
			name: "an endpoint with two addresses: the first one counts",
			text: strings.Replace(s.bad(), s.pods[0].IPv4.String(), fmt.Sprintf("%s, %s", s.pods[0].IPv4, s.pods[1].IPv4), 1),
			then: by("pod-1"),
		},
	}
}

func badServices(s *scene) []badInput {
	return []badInput{
		{
			name: "a load balancer that cannot ask for local endpoints",
			text: s.badLoadBalancer("203.0.113.20", "externalTrafficPolicy: Local"),
			says: []string{"Service default/bad", "NoHealthCheckNodePort"},
			then: func(s *scene) {
				by("pod-1")(s)
				served(s.t, s.NS, "http://203.0.113.20")
				s.noChosenPorts()
			},
		},
		{
			name: "a clusterIP of a Service that DNS alone answers for",
			text: strings.Replace(s.bad("externalName: elsewhere.example"), "type: NodePort", "type: ExternalName", 1),
			then: notServed,
		},
		{
			name: "affinity that does not say for how long",
			text: strings.Replace(s.badSlice(), "type: NodePort", "type: NodePort\n  sessionAffinity: ClientIP", 1),
			then: func(s *scene) {
				s.t.Helper()
				netns.Eventually(s.t, "one pod answers", func() error {
					if got, err := s.who(); err != nil || len(got) != 1 {
						return fmt.Errorf("%v answer, %w", got, err)
					}
					return nil
				})
			},
		},
	}
}

// noChosenPorts expects that usher listens on no port that the kernel has
// chosen, as it does if one asks it for port 0.
func (s *scene) noChosenPorts() {
	s.t.Helper()
	for line := range strings.Lines(s.Run("ss", "-ltnH")) {
		if addr, err := netip.ParseAddrPort(strings.ReplaceAll(strings.Fields(line)[3], "*", "0.0.0.0")); err == nil && addr.Port() > 32767 {
			s.t.Errorf("usher listens on %s", addr)
		}
	}
}

// While rules cannot be written usher tries again after every --sync-period. If
// that goes on for two of them, it says that it is not healthy.
func TestFailedWriteIsRetriedAndUnhealthy(t *testing.T) {
	broken := breakable(t)
	s := newScene(t)
	s.write("node.yaml", nodeManifest)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start("--node-name=node-1", "--sync-period=1s")
	served(t, s.client.NS, vip(10))
	s.awaitHealth(http.StatusOK)

	mend := touch(t, broken, "iptables")
	s.write("next.yaml", manifest("next", 11, 30081, s.pods[0].IPv4))
	s.awaitHealth(http.StatusServiceUnavailable)
	served(t, s.client.NS, vip(10))
	if n := len(complaints(u.Log())); n > 2 { // of the write, and of the look at what is there before the next one
		t.Errorf("usher complains %d times:\n%s", n, strings.Join(complaints(u.Log()), "\n"))
	}
	mend() // and nothing else changes
	served(t, s.client.NS, vip(11))
	s.awaitHealth(http.StatusOK)
}

// awaitHealth waits for a status code of usher's health.
func (s *scene) awaitHealth(code int) {
	s.t.Helper()
	netns.Eventually(s.t, fmt.Sprintf("healthz answers %d", code), func() error {
		resp, err := s.HTTPClient().Get("http://127.0.0.1:10256/healthz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != code {
			return fmt.Errorf("it answers %d", resp.StatusCode)
		}
		return nil
	})
}
