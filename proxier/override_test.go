package proxier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/annotation"
)

// does has a running Proxier do something, as its admin socket would.
func does[T any](t *testing.T, do func(context.Context, url.Values) (any, error), query string) (T, error) {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := do(t.Context(), q)
	told, _ := answer.(T)
	return told, err
}

func (s *scene) drain(t *testing.T, query string) ([]admin.Drained, error) {
	t.Helper()
	return does[[]admin.Drained](t, s.proxier.drainEndpoint, query)
}

func (s *scene) undrain(t *testing.T, query string) ([]admin.Drained, error) {
	t.Helper()
	return does[[]admin.Drained](t, s.proxier.undrainEndpoint, query)
}

// ofPod says which pod an endpoint is.
func ofPod(name string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: name}
	}
}

func TestADrainedEndpointGetsNoNewConnections(t *testing.T) {
	stays := serveTCP(t, func(c net.Conn) { c.Write([]byte("hi")); c.Read(make([]byte, 1)); c.Write([]byte("there")) })
	b := newBackend(t)
	s := newScene(t, func(c *Config) { c.Service.Drain.Timeout, c.Service.Drain.Unready = 1, annotation.UnreadyReset }) // those that leave end at once
	s.set(service("web", vip), end(stays))
	<-s.proxier.Ready()
	held, err := net.Dial("tcp", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := held.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	s.set(service("web", vip), end(stays), end(b.addr))
	s.eventually("both are there", func() error {
		if got := s.told("web"); len(got) != 2 {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	done, err := s.drain(t, "endpoint="+stays.String())
	if err != nil || len(done) != 1 || len(done[0].Endpoints) != 1 || *done[0].Endpoints[0].Connections != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	for range 6 { // it holds when the answer is there, not later
		if got, err := get(vip); got != b.addr.String() || err != nil {
			t.Fatalf("%s answers, %v", got, err)
		}
		s.record()
	}
	s.wantTold("web", byAddress(fmt.Sprintf("%s out []: drained on this node by uid 0 at *", stays), b.addr.String()+" in [cluster]: ready, nothing speaks against it")...)
	if _, err := held.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := held.Read(make([]byte, 5)); n != 5 || err != nil {
		t.Errorf("the connection that it had did not go on: %v", err)
	}
	held.Close()
	s.record()

	// Without others there is none, and the explanation says why.
	if _, err := s.drain(t, "endpoint="+b.addr.String()+"&service=default/web"); err != nil {
		t.Fatal(err)
	}
	s.refused(vip)
	x, err := s.explained("service", "web")
	if err != nil || x.Answer != "refuse" || !strings.HasPrefix(x.Candidates[0].Why, "drained on this node by uid 0 at ") {
		t.Errorf("%+v, %v", x, err)
	}
	if list, _ := s.proxier.showDrained(nil); len(list.([]admin.Drained)) != 2 {
		t.Errorf("drained are %+v", list)
	}
	if done, err := s.undrain(t, "all=true"); err != nil || len(done) != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	if c, err := net.Dial("tcp", vip); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if len(s.told("web")) != 2 || strings.Contains(strings.Join(s.told("web"), ""), "drained") {
		t.Errorf("it is told that %q", s.told("web"))
	}
	if done, err := s.undrain(t, "all=true"); err != nil || len(done) != 0 {
		t.Errorf("nothing is left, but %+v, %v", done, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, want := range []string{"EndpointDrained: " + stays.String() + " gets no new", "EndpointUndrained: " + stays.String() + " gets new"} {
		if !strings.Contains(strings.Join(s.events, "\n"), "Service/default/web "+want) && !strings.Contains(strings.Join(s.events, "\n"), want) {
			t.Errorf("the events %q are without %s", s.events, want)
		}
	}
}

func byAddress(lines ...string) []string {
	if addrOf(lines[1]).Compare(addrOf(lines[0])) < 0 {
		lines[0], lines[1] = lines[1], lines[0]
	}
	return lines
}

func addrOf(line string) netip.AddrPort {
	addr, _, _ := strings.Cut(line, " ")
	return netip.MustParseAddrPort(addr)
}

func TestADrainedPodBreaksAffinity(t *testing.T) {
	a, b := newBackend(t), newBackend(t)
	s := newScene(t)
	web := service("web", vip)
	web.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.set(web, end(a.addr, ofPod("web-a")), end(b.addr, ofPod("web-b")))
	s.served(vip)
	had, err := get(vip)
	if err != nil {
		t.Fatal(err)
	}
	s.record()
	pod, other := "web-a", b.addr.String()
	if had == other {
		pod, other = "web-b", a.addr.String()
	}
	if _, err := s.drain(t, "pod=default/"+pod); err != nil {
		t.Fatal(err)
	}
	if x, err := s.explained("service", "web", "from", "127.0.0.1"); err != nil || !says(x, "affinity", "not to be used now") {
		t.Errorf("%+v, %v", x, err)
	}
	if got, err := get(vip); got != other || err != nil {
		t.Errorf("%s answers, %v", got, err)
	}
	if r := s.record(); r.Affinity.String() != "broken" {
		t.Errorf("affinity is %s", r.Affinity)
	}
}

// Another pod that gets the address of one that was drained is not meant.
func TestADrainedAddressIsThatOfItsPod(t *testing.T) {
	a := newBackend(t)
	s := newScene(t)
	s.set(service("web", vip), end(a.addr, ofPod("web-1")))
	s.served(vip)
	if _, err := s.drain(t, "endpoint="+a.addr.String()); err != nil {
		t.Fatal(err)
	}
	s.refused(vip)
	s.set(service("web", vip), end(a.addr, ofPod("web-2")))
	s.served(vip)
	s.set(service("web", vip), end(a.addr, ofPod("web-1")))
	s.refused(vip)
}

// Who drains the address once more means the pod that has it now.
func TestADrainedAddressIsDrainedAgainForAnotherPod(t *testing.T) {
	b := newBackend(t)
	s := newScene(t)
	for _, name := range []string{"web-1", "web-2"} {
		s.set(service("web", vip), end(b.addr, ofPod(name)))
		s.eventually(name+" serves", func() error {
			if got := s.told("web"); len(got) != 1 || !strings.Contains(got[0], " in [cluster]") {
				return fmt.Errorf("%q", got)
			}
			_, err := get(vip)
			return err
		})
		done, err := s.drain(t, "endpoint="+b.addr.Addr().String())
		if err != nil || len(done) != 1 || len(done[0].Endpoints) != 1 || done[0].Endpoints[0].Pod != "default/"+name {
			t.Fatalf("%s: %+v, %v", name, done, err)
		}
		s.refused(vip)
	}
	if list, _ := s.proxier.showDrained(nil); len(list.([]admin.Drained)) != 1 {
		t.Errorf("drained are %+v", list)
	}
}

func TestDrainingOneServiceLeavesTheOthersAlone(t *testing.T) {
	a, other := newBackend(t), testVIP(3)
	s := newScene(t)
	api := slice("api", a.addr)
	s.set(service("web", vip), end(a.addr), service("api", other), api)
	s.served(vip)
	s.served(other)
	port := func(name string) *Port {
		for _, p := range s.proxier.seen.Load().ports() {
			if p.key.Name == name {
				return p.port
			}
		}
		return nil
	}
	before := port("api")
	if _, err := s.drain(t, "endpoint="+a.addr.String()+"&service=web&namespace=default"); err != nil {
		t.Fatal(err)
	}
	s.refused(vip)
	s.served(other)
	if port("api") != before {
		t.Error("what the other Service is was computed anew")
	}
}

func TestWhatCannotBeDrained(t *testing.T) {
	a := newBackend(t)
	s := newScene(t)
	s.set(service("web", vip), end(a.addr, ofPod("web-1")))
	s.served(vip)
	for query, want := range map[string]int{
		"":                                    400,
		"endpoint=web-1":                      400,
		"endpoint=10.0.0.1:0":                 400,
		"endpoint=fe80::1%25eth0":             400,
		"endpoint=10.0.0.1&pod=a/b":           400,
		"pod=web-1":                           400,
		"pod=a/b/c":                           400,
		"endpoint=10.0.0.1&service=web":       400,
		"endpoint=10.0.0.1":                   404,
		"pod=default/web-2":                   404,
		"pod=default/web-1&service=other/web": 404,
	} {
		_, err := s.drain(t, query)
		var answer *admin.Error
		if !errors.As(err, &answer) || answer.Status != want {
			t.Errorf("drain %s: %v, want %d", query, err, want)
		}
		if _, err := s.undrain(t, query); !errors.As(err, &answer) || answer.Status != want {
			t.Errorf("undrain %s: %v, want %d", query, err, want)
		}
	}
	for _, query := range []string{"all=yes", "all=true&pod=a/b"} {
		var answer *admin.Error
		if _, err := s.undrain(t, query); !errors.As(err, &answer) || answer.Status != 400 {
			t.Errorf("undrain %s: %v", query, err)
		}
	}
	for i := range 2 { // once more is the same
		if done, err := s.drain(t, "pod=default/web-1"); err != nil || len(done) != 1 {
			t.Errorf("time %d: %+v, %v", i, done, err)
		}
	}
	full := make(overrides, maxOverrides)
	if err := s.proxier.inLoop(t.Context(), func(context.Context) error { s.proxier.overrides = full; return nil }); err != nil {
		t.Fatal(err)
	}
	var answer *admin.Error
	if _, err := s.drain(t, "endpoint="+a.addr.String()); !errors.As(err, &answer) || answer.Status != 409 {
		t.Errorf("beyond the bound: %v", err)
	}
}

// A client of UDP whose endpoint is drained goes to another one.
func TestSessionsMoveFromADrainedEndpoint(t *testing.T) {
	s := newScene(t)
	s.set(datagramsTo("web", vip, packetEcho(t), packetEcho(t))...)
	<-s.proxier.Ready()
	c, err := net.Dial("udp", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() (from string) {
		s.eventually("an answer", func() error {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			c.SetReadDeadline(time.Now().Add(time.Second))
			answer := make([]byte, 100)
			n, err := c.Read(answer)
			from = string(answer[:n])
			return err
		})
		return from
	}
	had := ask()
	if again := ask(); again != had {
		t.Fatalf("%s, then %s", had, again)
	}
	if _, err := s.drain(t, "endpoint="+had); err != nil {
		t.Fatal(err)
	}
	if now := ask(); now == had {
		t.Errorf("%s still answers", now)
	}
}
