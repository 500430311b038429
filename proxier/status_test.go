package proxier

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// onNode1 is for scenes on node-1.
func onNode1(c *Config) { c.NodeName = "node-1" }

// inZone tells where node-1 is.
func (s *scene) inZone(zone string) {
	s.mu.Lock()
	s.objects.Node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// told is what Status tells of the one port of a Service: a line for each endpoint.
func (s *scene) told(service string) (lines []string) {
	for _, p := range s.proxier.Endpoints("default", service) {
		for _, e := range p.Endpoints {
			lines = append(lines, fmt.Sprintf("%s %s %v: %s", e.Address, e.State, e.Sets, e.Why))
		}
	}
	return lines
}

// wantTold waits until Status tells that; * stands for anything.
func (s *scene) wantTold(service string, want ...string) {
	s.t.Helper()
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.Join(want, "\n")), `\*`, ".*")
	s.eventually("what is told of the endpoints", func() error {
		got := strings.Join(s.told(service), "\n")
		if !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
			return fmt.Errorf("it is\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
		return nil
	})
}

// end is the slice of one endpoint.
func end(addr netip.AddrPort, change ...func(*discoveryv1.Endpoint)) *discoveryv1.EndpointSlice {
	s := slice("web", addr)
	for _, f := range change {
		f(&s.Endpoints[0])
	}
	return s
}

func is(ready, serving, terminating bool) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) { e.Conditions = conditions(ready, serving, terminating) }
}

func node(name string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) { e.NodeName = &name }
}

func hinted(zones ...string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Hints = &discoveryv1.EndpointHints{}
		for _, z := range zones {
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
		}
	}
}

func hintedNode(name string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: name}}}
	}
}

func internalLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
}

func TestWhyAnEndpointIsInOrOut(t *testing.T) {
	addrs := []netip.AddrPort{newBackend(t).addr, newBackend(t).addr, newBackend(t).addr}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	a, b, c := addrs[0], addrs[1], addrs[2]
	nodePort := func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeNodePort, corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.Ports[0].NodePort = int32(freeAddr(t).Port())
	}
	elsewhere := func(s *discoveryv1.EndpointSlice, address string) *discoveryv1.EndpointSlice {
		s.Endpoints[0].Addresses[0] = address
		return s
	}
	none := func(*corev1.Service) {}
	vip := testVIP(2)

	s := newScene(t, onNode1)
	for _, test := range []struct {
		name    string
		service func(*corev1.Service)
		slices  []any
		want    []string // a, b and c stand for the addresses
	}{
		{"ready", none, []any{end(a), end(b)},
			[]string{"a in [cluster]: ready, nothing speaks against it", "b in [cluster]: ready, nothing speaks against it"}},
		{"not ready", none, []any{end(a), end(b, is(false, true, false))},
			[]string{"a in [cluster]: ready, nothing speaks against it", "b out []: not ready"}},
		{"terminating", none, []any{end(a), end(b, is(false, true, true)), end(c, is(false, false, true))},
			[]string{"a in [cluster]: ready, nothing speaks against it",
				"b out []: terminating: it still serves, but others are ready",
				"c out []: terminating, and it does not serve any more"}},
		{"all terminating", none, []any{end(a, is(false, true, true)), end(b, is(false, false, true))},
			[]string{"a in [cluster]: terminating, still serving while none is ready, nothing speaks against it",
				"b out []: terminating, and it does not serve any more"}},
		{"for another zone", none, []any{end(a, hinted("zone-a")), end(b, hinted("zone-b", "zone-c"))},
			[]string{"a in [cluster]: ready, nothing speaks against it",
				"b out []: its topology hints are for zone zone-b, zone-c, this is zone zone-a"}},
		{"for another node", none, []any{end(a, hintedNode("node-1")), end(b, hintedNode("node-2"))},
			[]string{"a in [cluster]: ready, nothing speaks against it",
				"b out []: its topology hints are for node node-2, this is node node-1"}},
		{"of this node only", internalLocal, []any{end(a, node("node-1")), end(b, node("node-2")), end(c)},
			[]string{"a in [local]: ready, nothing speaks against it",
				"b out []: not in the local set: it is on node node-2, this is node node-1",
				"c out []: not in the local set: it does not say on which node it is"}},
		{"in both sets and in one", nodePort, []any{end(a, node("node-1")), end(b, node("node-2")), end(c, is(false, false, false))},
			[]string{"a in [cluster local]: ready, nothing speaks against it",
				"b in [cluster]: ready, nothing speaks against it; not in the local set: it is on node node-2, this is node node-1",
				"c out []: not ready"}},
		{"the cluster's for clients on this node only", func(s *corev1.Service) { nodePort(s); internalLocal(s) }, []any{end(a, node("node-1")), end(b, node("node-2"))},
			[]string{"a in [cluster local]: ready, nothing speaks against it",
				"b in [cluster]: ready, nothing speaks against it; not in the local set: it is on node node-2, this is node node-1"}},
		{"terminating here", nodePort, []any{end(a, node("node-1"), is(false, true, true)), end(b, node("node-2"))},
			[]string{"a in [local]: terminating, still serving while none is ready, nothing speaks against it; terminating: it still serves, but others are ready",
				"b in [cluster]: ready, nothing speaks against it; not in the local set: it is on node node-2, this is node node-1"}},
		{"excluded", none, []any{end(a), end(netip.MustParseAddrPort(vip)), elsewhere(end(b), "169.254.1.1"), elsewhere(end(c), "web-0")},
			[]string{"a in [cluster]: ready, nothing speaks against it",
				vip + " out []: not used: loop_detected: it is an address that usher itself serves",
				fmt.Sprintf("169.254.1.1:%d out []: not used: link-local address", b.Port()),
				"web-0 out []: not used: not an IP address"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.t = t
			web := service("web", vip)
			test.service(web)
			s.set(append([]any{web}, test.slices...)...)
			s.inZone("zone-a")
			for i, line := range test.want {
				for name, addr := range map[string]netip.AddrPort{"a": a, "b": b, "c": c} {
					if rest, ok := strings.CutPrefix(line, name+" "); ok {
						test.want[i] = addr.String() + " " + rest
					}
				}
			}
			s.wantTold("web", test.want...)
		})
	}
}

func TestWhyAnEndpointThatIsIllIsOut(t *testing.T) {
	s := newScene(t, onNode1)
	alive, dead := newBackend(t).addr, freeAddr(t)
	// It is all that there is on this node, which is nothing to a Service without
	// addresses for the node's own endpoints.
	s.set(service("web", vip), end(alive, node("node-2")), end(dead, node("node-1")))
	s.eventually("the endpoint is ill", func() error {
		if _, err := get(vip); err != nil {
			return err
		}
		for _, line := range s.told("web") {
			if strings.HasPrefix(line, dead.String()+" out") {
				return nil
			}
		}
		return errors.New("it is in")
	})
	want := []string{alive.String() + " in [cluster]: ready, nothing speaks against it",
		dead.String() + " out [cluster]: ready, but ill for *s, 5 connections in a row failed (*connection refused), its back-off is 10s, a probe decides in *s"}
	slices.Sort(want)
	s.wantTold("web", want...)
	for _, line := range s.told("web") {
		if strings.Contains(line, "stays in use") {
			t.Errorf("it is told to stay in a set that nobody gets: %s", line)
		}
	}
}

func TestWhyAnEndpointThatIsIllIsIn(t *testing.T) {
	s := newScene(t)
	dead := freeAddr(t)
	s.set(with(service("web", vip), dead)...)
	s.eventually("the endpoint is ill and kept", func() error {
		get(vip)
		if told := strings.Join(s.told("web"), "\n"); !strings.Contains(told, "stays in use") {
			return errors.New(told)
		}
		return nil
	})
	s.wantTold("web", dead.String()+" in [cluster]: ready, but ill for *s, 5 connections in a row failed (*), its back-off is 10s, *, "+
		"stays in use all the same (set cluster: no more than 0 of 1 may be left out*)")
}

// lasting is a backend that talks to nobody and does not close.
func lasting(t *testing.T) netip.AddrPort {
	return serveTCP(t, func(c net.Conn) { c.Read(make([]byte, 1)) })
}

func TestConnectionsOfEndpointsAreCounted(t *testing.T) {
	s := newScene(t)
	one, other := lasting(t), lasting(t)
	web := service("web", vip)
	web.Annotations = map[string]string{"usher-proxy.io/balancer": "first", "usher-proxy.io/weights": "address=127.0.0.1:7"}
	s.set(with(web, one)...)
	var clients []net.Conn
	for range 3 {
		s.eventually("connected", func() error {
			c, err := net.DialTimeout("tcp", vip, patience)
			if err == nil {
				t.Cleanup(func() { c.Close() })
				clients = append(clients, c)
			}
			return err
		})
	}
	connections := func(addr netip.AddrPort) error {
		want, status := len(clients), s.proxier.Endpoints("", "")
		if len(status) == 0 {
			return errors.New("the pass is not over")
		}
		for _, e := range status[0].Endpoints {
			if e.Address == addr.String() && *e.Connections == want {
				return nil
			}
		}
		return fmt.Errorf("%s has not %d connections: %+v", addr, want, status[0].Endpoints)
	}
	s.eventually("three connections", func() error { return connections(one) })
	if got := s.proxier.Endpoints("default", "web")[0]; got.Balancer != "first" || len(got.Endpoints) != 1 || got.Endpoints[0].Weight != 7 || got.Port != 8080 ||
		!reflect.DeepEqual(got.Sets, []admin.SetStatus{{Name: string(ClusterSet), Endpoints: 1}}) {
		t.Errorf("the Service port is %+v", got)
	}
	if got := s.proxier.Status(); got.Connections != 3 || got.Ports != 1 || got.Capture != "bind" || !got.Ready {
		t.Errorf("the status is %+v", got)
	}

	clients[0].Close()
	clients = clients[1:]
	s.eventually("two connections", func() error { return connections(one) })

	web = web.DeepCopy()
	web.Annotations["usher-proxy.io/drain-timeout"] = "1h"
	s.set(with(web, other)...)
	s.wantTold("web", other.String()+" in [cluster]: ready, nothing speaks against it",
		one.String()+" out []: it has left the EndpointSlices; its connections may go on for 1h0m0s from then")
	if err := connections(one); err != nil {
		t.Error(err)
	}
	web = web.DeepCopy()
	delete(web.Annotations, "usher-proxy.io/drain-timeout")
	s.set(with(web, other)...)
	s.wantTold("web", other.String()+" in [cluster]: ready, nothing speaks against it",
		one.String()+" out []: it has left the EndpointSlices; its connections may go on")
}

func TestStatusWhileEndpointsChange(t *testing.T) {
	s := newScene(t)
	a, b := newBackend(t).addr, newBackend(t).addr
	s.set(with(service("web", vip), a)...)
	s.served(vip)
	for i := range 200 {
		endpoints := []netip.AddrPort{a, b}[:1+i%2]
		s.set(with(service("web", vip), endpoints...)...)
		get(vip)
		if got := s.proxier.Endpoints("", ""); len(got) != 1 || len(got[0].Endpoints) == 0 {
			t.Fatalf("Endpoints are %+v", got)
		}
	}
	if got := s.proxier.Endpoints("other", ""); len(got) != 0 {
		t.Errorf("of another namespace: %+v", got)
	}
	if got := s.proxier.Endpoints("", "other"); len(got) != 0 {
		t.Errorf("of another Service: %+v", got)
	}
}

func TestTheAdminSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "run", "usher.sock")
	retries := admin.Setting{Key: "retries", Flag: "retries", Value: 2.0, Origin: admin.OriginFile, As: "retries", File: "usher.yaml", Line: 3}
	s := newScene(t, onNode1, func(c *Config) { c.AdminSocket, c.Version, c.Settings = socket, "v1", []admin.Setting{retries} })
	ask := func(path string, q url.Values, into any) error { return admin.Get(t.Context(), socket, path, q, into) }

	var early *admin.Error
	s.eventually("usher says that it has just begun", func() error {
		if err := ask("/v1/endpoints", nil, &[]admin.ServicePort{}); !errors.As(err, &early) || early.Status != http.StatusServiceUnavailable {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	var settings []admin.Setting
	if err := ask("/v1/config", nil, &settings); err != nil || len(settings) != 1 || !reflect.DeepEqual(settings[0], retries) {
		t.Errorf("its settings, which are known from the start, are %+v, %v", settings, err)
	}
	a := newBackend(t)
	s.set(with(service("web", vip), a.addr)...)
	s.served(vip)

	var status admin.Status
	s.eventually("the status", func() error {
		want := admin.Status{
			Version: "v1", Node: "node-1", PID: os.Getpid(), Capture: "bind", CaptureWhy: "as asked for", Families: []string{"IPv4", "IPv6"}, Ready: true, Services: 1, Ports: 1,
			Started: status.Started, Rules: admin.Rules{Written: status.Rules.Written}, Files: status.Files, Ring: admin.Ring{Held: 1, Size: observe.DefaultRingSize},
			RecentSeconds: status.RecentSeconds,
			Recent:        []admin.ReasonCount{{Reason: "ok", Code: "--", Side: "none", Text: "both sides closed", Count: 1}},
		}
		if err := ask("/v1/status", nil, &status); err != nil || !reflect.DeepEqual(status, want) {
			return fmt.Errorf("it is %+v, %v", status, err)
		}
		return nil
	})
	if s := status; s.Rules.Written == nil || time.Since(*s.Rules.Written) > time.Minute || time.Since(s.Started) > time.Minute ||
		s.Files.Used < 10 || s.Files.Limit <= s.Files.Used || s.RecentSeconds <= 0 || s.RecentSeconds > 60 {
		t.Errorf("the status is %+v", s)
	}
	var list []admin.ServicePort
	if err := ask("/v1/endpoints", url.Values{"namespace": {"default"}, "service": {"web"}}, &list); err != nil || !reflect.DeepEqual(list, s.proxier.Endpoints("", "")) {
		t.Errorf("the endpoints are %+v, %v", list, err)
	}
	var missing *admin.Error
	if err := ask("/v1/endpoints", url.Values{"namespace": {"default"}, "service": {"other"}}, &list); !errors.As(err, &missing) ||
		missing.Status != http.StatusNotFound || missing.Message != "no Service default/other is served on this node" {
		t.Errorf("of another Service: %v", err)
	}

	second := newScene(t, func(c *Config) { c.AdminSocket = socket })
	second.set(with(service("api", testVIP(3)), a.addr)...)
	second.served(testVIP(3)) // all the same
	second.eventually("it tells of the socket", func() error {
		second.mu.Lock()
		defer second.mu.Unlock()
		if told := strings.Join(second.events, "\n"); !strings.Contains(told, "another process listens to "+socket) {
			return errors.New(told)
		}
		return nil
	})
	second.stop()
	if err := ask("/v1/status", nil, &status); err != nil {
		t.Errorf("after another one has ended: %v", err)
	}
	s.stop()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestEndpointsOfUDPHaveNoConnections(t *testing.T) {
	s := newScene(t)
	web := service("web", vip)
	web.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	one := slice("web", freeAddr(t))
	one.Ports[0].Protocol = new(corev1.ProtocolUDP)
	s.set(web, one)
	s.eventually("it is told", func() error {
		if got := s.proxier.Endpoints("", ""); len(got) != 1 || len(got[0].Endpoints) != 1 || got[0].Endpoints[0].Connections != nil || got[0].Protocol != "udp" {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
}
