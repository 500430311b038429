package proxier

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// at is an endpoint as the tests of this file write it.
type at struct {
	ip    string
	node  string
	c     condition
	zones string // a letter each
	nodes string // hinted, one name
}

func eligibleOf(ends ...at) Port {
	s := podSlice("web", "one", "10.0.0.1", condition{})
	s.Endpoints = nil
	for _, a := range ends {
		e := discoveryv1.Endpoint{Addresses: []string{a.ip}, Conditions: a.c}
		if a.node != "" {
			e.NodeName = &a.node
		}
		if a.zones != "" || a.nodes != "" {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		for _, z := range a.zones {
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: "zone-" + string(z)})
		}
		if a.nodes != "" {
			e.Hints.ForNodes = []discoveryv1.ForNode{{Name: a.nodes}}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return *desireOf(service("web", "10.96.0.10:80"), s).ports[0]
}

// The sets of semantics that every Service proxy shares (kube-proxy's
// CategorizeEndpoints). The tests run on node-1 in zone-a.
func TestEligibleEndpoints(t *testing.T) {
	ready, leaving, gone := conditions(true, true, false), conditions(false, true, true), conditions(false, false, true)
	unready := conditions(false, true, false)
	const a, b, c = "10.0.0.1", "10.0.0.2", "10.0.0.3"
	for _, test := range []struct {
		name           string
		ends           []at
		cluster, local string // last bytes of the addresses, and what is special
	}{
		{"nothing anywhere", nil, "refuses", "refuses"},
		{"here and elsewhere", []at{{ip: a, node: "node-1", c: ready}, {ip: b, node: "node-2", c: ready}}, "1 2", "1"},
		{"only elsewhere", []at{{ip: b, node: "node-2", c: ready}}, "2", "silent"},
		{"a node that nobody names is another one", []at{{ip: b, c: ready}}, "2", "silent"},
		{"leaving here, ready elsewhere: each set by itself", []at{{ip: a, node: "node-1", c: leaving}, {ip: b, node: "node-2", c: ready}}, "2", "1 leaving"},
		{"all leave", []at{{ip: a, node: "node-1", c: leaving}, {ip: b, node: "node-2", c: leaving}}, "1 2 leaving", "1 leaving"},
		{"only leaving elsewhere", []at{{ip: b, node: "node-2", c: leaving}}, "2 leaving", "silent"},
		{"serve no more", []at{{ip: a, node: "node-1", c: gone}, {ip: b, node: "node-2", c: gone}}, "refuses", "refuses"},
		{"unready is never used", []at{{ip: a, node: "node-1", c: unready}}, "refuses", "refuses"},
		{"ready while terminating: publishNotReadyAddresses", []at{{ip: a, node: "node-1", c: conditions(true, false, true)}}, "1", "1"},

		{"zone hints", []at{{ip: a, c: ready, zones: "a"}, {ip: b, c: ready, zones: "b"}, {ip: c, c: ready, zones: "ab"}}, "1 3 by zone", "silent"},
		{"one ready endpoint without a hint: none count", []at{{ip: a, c: ready, zones: "a"}, {ip: b, c: ready}}, "1 2", "silent"},
		{"an unready one without a hint does not matter", []at{{ip: a, c: ready, zones: "a"}, {ip: b, c: unready}, {ip: c, c: leaving}}, "1 by zone", "silent"},
		{"nothing for the zone", []at{{ip: a, c: ready, zones: "b"}, {ip: b, c: ready, zones: "c"}}, "1 2", "silent"},
		{"node hints come first", []at{{ip: a, c: ready, zones: "a", nodes: "node-1"}, {ip: b, c: ready, zones: "a", nodes: "node-2"}}, "1 by node", "silent"},
		{"nothing for the node: its zone", []at{{ip: a, c: ready, zones: "a", nodes: "node-2"}, {ip: b, c: ready, zones: "b", nodes: "node-3"}}, "1 by zone", "silent"},
		{"node hints not complete: zone", []at{{ip: a, c: ready, zones: "a", nodes: "node-1"}, {ip: b, c: ready, zones: "a"}}, "1 2 by zone", "silent"},
		{"hints do not touch the local set", []at{{ip: a, node: "node-1", c: ready, zones: "b"}, {ip: b, node: "node-2", c: ready, zones: "a"}}, "2 by zone", "1"},
		{"hints do not touch those that leave", []at{{ip: a, c: leaving, zones: "b"}, {ip: b, c: leaving}}, "1 2 leaving", "silent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := eligibleOf(test.ends...)
			if got := describe(&p.Cluster); got != test.cluster {
				t.Errorf("ClusterSet: %s, want %s", got, test.cluster)
			}
			if got := describe(&p.Local); got != test.local {
				t.Errorf("LocalSet: %s, want %s", got, test.local)
			}
		})
	}
}

func describe(e *Eligible) string {
	switch a := e.answer(); {
	case a.equal(refusing):
		return "refuses"
	case a.equal(silent):
		return "silent"
	}
	text := ""
	for i, end := range e.Endpoints {
		if i > 0 {
			text += " "
		}
		text += fmt.Sprint(end.Addr.Addr().As4()[3])
	}
	if e.Terminating {
		text += " leaving"
	}
	if e.Topology != "" {
		text += " by " + e.Topology
	}
	return text
}

func TestNodeWithoutZoneIgnoresZoneHints(t *testing.T) {
	hinted := map[netip.AddrPort]endpoint{{}: {ready: true, zones: []string{"zone-a", ""}}}
	for zone, want := range map[string]hint{"zone-a": zoneHint, "zone-b": "", "": ""} {
		d := desired{facts: facts{zone: zone}}
		if got := d.topologyOf(hinted).kind; got != want {
			t.Errorf("in zone %q: hints by %q, want %q", zone, got, want)
		}
	}
}

func TestEndpointsWithoutNodeAreNeverLocal(t *testing.T) {
	d := desired{facts: facts{nodeName: ""}}
	if d.isLocal(endpoint{}) {
		t.Error("an endpoint that does not say where it is counts as local")
	}
}

func TestSlicesThatCannotBeUsedAreTold(t *testing.T) {
	noName := podSlice("web", "no-service", "10.0.0.1", condition{})
	delete(noName.Labels, discoveryv1.LabelServiceName)
	fqdn := podSlice("web", "fqdn", "10.0.0.1", condition{})
	fqdn.AddressType = discoveryv1.AddressTypeFQDN
	nilName, nilPort := podSlice("web", "nil-name", "10.0.0.1", condition{}), podSlice("web", "nil-port", "10.0.0.1", condition{})
	nilName.Ports[0].Name, nilPort.Ports[0].Port = nil, nil
	zero := podSlice("web", "zero", "10.0.0.1", condition{})
	*zero.Ports[0].Port = 0
	for _, s := range []*discoveryv1.EndpointSlice{noName, fqdn, nilName, nilPort, zero} {
		d := desireOf(service("web", "10.96.0.10:80"), s, podSlice("web", "good", "10.0.0.9", condition{}))
		if got := addresses(d.ports[0].Cluster.Endpoints); got != "10.0.0.9:8080" {
			t.Errorf("%s: endpoints %q", s.Name, got)
		}
		if len(d.problems) != 1 || d.problems[0].Reason != "SliceIgnored" || d.problems[0].About.Name != s.Name {
			t.Errorf("%s: problems %v", s.Name, d.problems)
		}
	}
	nothing := podSlice("web", "nothing", "10.0.0.1", condition{})
	nothing.Endpoints[0].Addresses = nil
	if d := desireOf(service("web", "10.96.0.10:80"), nothing); len(d.problems)+len(d.ports[0].Cluster.Endpoints) > 0 {
		t.Errorf("an endpoint without address: %v", d.problems)
	}
}

func TestAffinityTimeout(t *testing.T) {
	seconds := int32(125)
	for _, c := range []struct {
		affinity corev1.ServiceAffinity
		config   *corev1.SessionAffinityConfig
		want     string
	}{
		{corev1.ServiceAffinityNone, nil, "0s"},
		{corev1.ServiceAffinityClientIP, nil, "3h0m0s"}, // what the API server fills in
		{corev1.ServiceAffinityClientIP, &corev1.SessionAffinityConfig{}, "3h0m0s"},
		{corev1.ServiceAffinityClientIP, &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}, "2m5s"},
	} {
		s := service("web", "10.96.0.10:80")
		s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = c.affinity, c.config
		if got := desireOf(s).ports[0].Affinity.String(); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.affinity, c.config, got, c.want)
		}
	}
}

func TestAnnotationsThatTheNodeDoesNotAllow(t *testing.T) {
	s := service("web", "10.96.0.10:80")
	s.Annotations = map[string]string{"usher-proxy.io/proxy-protocol": "v1", "usher-proxy.io/hedge": "50ms"}
	m := memory{changed: make(chan struct{}, 1)}
	m.set(s)
	f := testFacts
	f.forbidden = []string{"proxy-protocol"}
	d := desire(m.objects, f)
	if got := d.ports[0].Settings; got.ProxyProtocol != 0 || got.Retry.Hedge == 0 {
		t.Errorf("settings %+v", got)
	}
	if len(d.problems) != 1 || d.problems[0].Reason != "IgnoredUsherAnnotation" {
		t.Errorf("problems %v", d.problems)
	}
}

func TestAnnotations(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        byte
		problems    int
	}{
		{"usher-proxy.io/proxy-protocol", "v1", 1, 0},
		{"usher-proxy.io/proxy-protocol", "v2", 2, 0},
		{"usher-proxy.io/proxy-protocol", "V2", 0, 1},
		{"usher-proxy.io/proxy-protocoll", "v2", 0, 1},
		{"example.com/proxy-protocol", "v2", 0, 0},
	} {
		s := service("web", "10.96.0.10:80")
		s.Annotations = map[string]string{c.name: c.value}
		d := desireOf(s)
		if got := d.ports[0].Settings.ProxyProtocol; got != c.want || len(d.problems) != c.problems {
			t.Errorf("%s=%s: version %d, problems %v", c.name, c.value, got, d.problems)
		}
	}
}
