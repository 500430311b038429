package proxier

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/proxier/admin"
)

// explained asks a running Proxier.
func (s *scene) explained(query ...string) (x *admin.Explanation, err error) {
	s.t.Helper()
	q := url.Values{}
	for i := 0; i < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	answer, err := s.proxier.showExplanation(q)
	x, _ = answer.(*admin.Explanation)
	return x, err
}

// stepsOf are those of an explanation, as in "policy ok".
func stepsOf(x *admin.Explanation) (list []string) {
	for _, s := range x.Steps {
		list = append(list, s.Name+" "+s.Result)
	}
	return list
}

// says whether some step of that name tells all of it.
func says(x *admin.Explanation, name string, what ...string) bool {
	return slices.ContainsFunc(x.Steps, func(s admin.Step) bool {
		text := s.Text + "\n" + strings.Join(s.Evidence, "\n")
		return s.Name == name && !slices.ContainsFunc(what, func(w string) bool { return !strings.Contains(text, w) })
	})
}

func TestTheWayToAnEndpointIsExplained(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	s := newScene(t, onNode1)
	s.set(with(service("web", vip), a.addr, b.addr)...)
	s.served(vip)
	x, err := s.explained("service", "default/web", "from", "203.0.113.7")
	if err != nil {
		t.Fatal(err)
	}
	if x.Answer != "serve" || x.VIP != vip || x.Kind != "external" || x.Client != "203.0.113.7" {
		t.Errorf("it is %+v", x)
	}
	if want := []string{"address ok", "policy ok", "source ok", "rule ok", "listener ok", "limits ok", "affinity ok", "endpoints ok", "balancer ok", "seen-as note"}; !slices.Equal(stepsOf(x), want) {
		t.Errorf("the steps are %q", stepsOf(x))
	}
	if !says(x, "policy", "outside of this node", "cluster set") || !says(x, "listener", vip) || !says(x, "limits", "0 of ") {
		t.Errorf("the steps are %+v", x.Steps)
	}
	// Round-robin says who is next, and is not changed by that.
	for range 4 {
		x, err := s.explained("service", "web")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(x.Candidates, func(c admin.Candidate) bool { return c.Order == 1 })
		if i < 0 || len(x.Candidates) != 2 || x.Candidates[i].Share != 0.5 || !strings.Contains(x.Verdict, x.Candidates[i].Address) {
			t.Fatalf("candidates %+v, verdict %s", x.Candidates, x.Verdict)
		}
		if got, err := get(vip); err != nil || got != x.Candidates[i].Address {
			t.Errorf("%s was foretold, it came to %s, %v", x.Candidates[i].Address, got, err)
		}
		s.record()
	}
}

func TestWhatEndsTheWay(t *testing.T) {
	here, lb := newBackend(t), testVIP(5)
	external := func(service *corev1.Service) {
		service.Spec.Type, service.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		service.Spec.LoadBalancerSourceRanges = []string{"127.0.0.0/8", "192.0.2.0/24"}
		service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: netip.MustParseAddrPort(lb).Addr().String()}}
	}
	for _, c := range []struct {
		about   string
		service func(*corev1.Service)
		objects []any
		query   []string
		answer  string
		step    string
		says    []string
	}{
		{"no endpoint", func(*corev1.Service) {}, nil, nil, "refuse", "listener", []string{"no endpoint is usable in the cluster set"}},
		{"only one that is not ready", func(*corev1.Service) {}, []any{end(here.addr, is(false, false, false))}, nil, "refuse", "listener", []string{"refused"}},
		{"internalTrafficPolicy", internalLocal, []any{end(here.addr, node("node-2"))}, nil, "silence", "listener", []string{"internalTrafficPolicy: Local allows none of the other nodes"}},
		{"from outside to a load balancer", external, []any{end(here.addr, node("node-2"))}, []string{"vip", strings.Split(lb, ":")[0], "from", "192.0.2.1"}, "silence", "listener", []string{"other nodes have some"}},
		{"from a stranger", external, []any{end(here.addr, node("node-1"))}, []string{"vip", lb, "from", "198.51.100.1"}, "silence", "source", []string{"outside of loadBalancerSourceRanges", "192.0.2.0/24"}},
		{"from a friend", external, []any{end(here.addr, node("node-1"))}, []string{"vip", lb, "from", "192.0.2.1"}, "serve", "source", []string{"is in loadBalancerSourceRanges"}},
		{"from this node", external, []any{end(here.addr, node("node-2"))}, []string{"vip", lb, "from", "127.0.0.1"}, "serve", "policy", []string{"does not bind clients on this node"}},
	} {
		t.Run(c.about, func(t *testing.T) {
			s := newScene(t, onNode1)
			web := service("web", vip)
			c.service(web)
			s.set(append([]any{web}, c.objects...)...)
			<-s.proxier.Ready()
			x, err := s.explained(append([]string{"service", "web"}, c.query...)...)
			if err != nil {
				t.Fatal(err)
			}
			if x.Answer != c.answer || !says(x, c.step, c.says...) || len(x.Candidates) != len(c.objects) {
				t.Errorf("%s: %s\n%+v\n%+v", x.Answer, x.Verdict, x.Steps, x.Candidates)
			}
			for _, e := range x.Candidates { // in for others, but not for this client
				if e.State == admin.In && c.answer != "serve" && c.step != "source" {
					t.Errorf("%+v is in", e)
				}
			}
			if last := x.Steps[len(x.Steps)-1].Result; (last == "stop") != (c.answer != "serve") || x.Verdict == "" {
				t.Errorf("it ends with %s: %s", last, x.Verdict)
			}
		})
	}
}

func TestLimitsAndAffinityAreExplainedWithoutBeingTouched(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	s := newScene(t, func(c *Config) { c.Service.Limits.PerClient = 1 })
	web := service("web", vip)
	web.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.set(with(web, a.addr, b.addr)...)
	<-s.proxier.Ready()
	for range 3 {
		if x, err := s.explained("service", "web"); err != nil || !says(x, "affinity", "is bound to no endpoint") {
			t.Fatalf("%+v, %v", x, err)
		}
	}
	bound, err := get(vip)
	if err != nil {
		t.Fatal(err)
	}
	s.record()
	x, err := s.explained("service", "web", "from", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(x.Candidates, func(c admin.Candidate) bool { return c.Order == 1 })
	if !says(x, "affinity", "was sent to "+bound) || !says(x, "balancer", "session affinity has decided") || i < 0 || x.Candidates[i].Address != bound ||
		!strings.Contains(x.Verdict, "served by "+bound+", to which session affinity binds the client") {
		t.Errorf("it is %+v\n%+v", x.Steps, x.Candidates)
	}
	silent := serveTCP(t, func(c net.Conn) { c.Read(make([]byte, 1)) })
	s.set(with(web, silent)...)
	s.eventually("only that one is left", func() error {
		if x, err = s.explained("service", "web"); err == nil && (len(x.Candidates) != 1 || x.Candidates[0].Address != silent.String()) {
			err = fmt.Errorf("%+v", x.Candidates)
		}
		return err
	})
	var held net.Conn
	s.eventually("a connection that stays", func() (err error) {
		if held, err = net.Dial("tcp", vip); err == nil && s.proxier.data.connections.count() == 0 {
			held.Close()
			err = errors.New("none yet")
		}
		return err
	})
	defer held.Close()
	s.eventually("the limit is told", func() error {
		if x, err = s.explained("service", "web", "from", "127.0.0.1"); err != nil || x.Answer != "reset" || !says(x, "limits", "this client: 1 of 1") {
			return fmt.Errorf("%+v, %v", x, err)
		}
		return nil
	})
}

// A Service may be served by all rules, and nobody can connect to an endpoint.
func TestThatNoEndpointCanBeConnectedToIsExplained(t *testing.T) {
	s := newScene(t)
	s.set(with(service("web", vip), newBackend(t).addr)...)
	s.served(vip)
	const warning = "to each of them the last connection has failed"
	if x, err := s.explained("service", "web"); err != nil || !says(x, "endpoints", "1 of 1") || says(x, "endpoints", warning) {
		t.Fatalf("%+v, %v", x, err)
	}
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.set(with(service("web", vip), netip.MustParseAddrPort(deaf.Addr().String()))...)
	deaf.Close()
	s.eventually("that is told", func() error {
		get(vip)
		if x, err := s.explained("service", "web"); err != nil || !says(x, "endpoints", warning) || !slices.Contains(stepsOf(x), "endpoints note") || !strings.Contains(x.Verdict, "to none of them could be connected") {
			return fmt.Errorf("%+v, %v", x, err)
		}
		return nil
	})
}

func TestWhatThereIsInsteadOfAService(t *testing.T) {
	s := newScene(t)
	headless, external, elsewhere := service("headless", testVIP(6)), service("outside", testVIP(7)), service("shop", testVIP(8))
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	external.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.com"}
	elsewhere.Namespace = "prod"
	taken := service("taken", vip)
	taken.CreationTimestamp.Time = time.Now()
	two := service("two", testVIP(9))
	two.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "dns", Port: 53}, {Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP}}
	s.set(service("web", vip), headless, external, elsewhere, taken, two)
	<-s.proxier.Ready()
	for _, c := range []struct {
		query  []string
		status int
		want   string
	}{
		{[]string{"service", "headless"}, 404, "it is headless"},
		{[]string{"service", "outside"}, 404, "DNS alone answers for it, with www.example.com"},
		{[]string{"service", "shop"}, 404, "there is one of that name in the namespace prod"},
		{[]string{"service", "taken"}, 404, "default/web has it"},
		{[]string{"service", "nothing"}, 404, "service-proxy-name"},
		{[]string{"service", "web", "port", "81"}, 404, "has no such port on this node, only: 8080/tcp, IPv4"},
		{[]string{"service", "web", "vip", "192.0.2.9"}, 404, "192.0.2.9 is no address of default/web/tcp (IPv4) on this node, only: " + vip},
		{[]string{"service", "two"}, 400, "has several ports, name one of: dns (53/tcp, IPv4); dns-udp (53/udp, IPv4); http (80/tcp, IPv4)"},
		{[]string{"service", "web", "from", "fd00::1", "vip", "192.0.2.1"}, 400, "must be of one"},
		{[]string{"service", "web", "from", "nobody"}, 400, `from="nobody": want an IP address`},
		{[]string{"service", "web", "from", "0.0.0.0"}, 400, "no client has that address"},
		{[]string{"service", "web", "protocol", "sctp"}, 400, "want tcp or udp"},
		{[]string{"service", "web", "family", "5"}, 400, "want IPv4 or IPv6"},
		{[]string{"service", "a/b", "namespace", "c"}, 400, "want NAME or NAMESPACE/NAME"},
		{nil, 400, "service: want NAME"},
	} {
		_, err := s.explained(c.query...)
		var answer *admin.Error
		if !errors.As(err, &answer) || answer.Status != c.status || !strings.Contains(answer.Message, c.want) {
			t.Errorf("%v: %v, want %d %s", c.query, err, c.status, c.want)
		}
	}
	for port, want := range map[string]string{"53": "tcp", "dns-udp": "udp"} {
		if x, err := s.explained("service", "two", "port", port); err != nil || x.Protocol != want {
			t.Errorf("port %s: %+v, %v", port, x, err)
		}
	}
}
