package proxier

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ledger is a capture on paper that notes which Services it was asked for sockets of.
type ledger struct {
	paper
	asked  []string
	refuse string           // the Service whose sockets cannot be had
	failed map[Family]error // what apply returns
}

func (c *ledger) sockets(port *Port, _ []*socket, _ opener, _ *nodeState) ([]*socket, []error) {
	c.asked = append(c.asked, port.Name)
	if port.Name == c.refuse {
		return nil, []error{errors.New("taken")}
	}
	return nil, nil
}

func (c *ledger) apply(context.Context, []*listener, *nodeState, bool) map[Family]error {
	return c.failed
}

// paperwork makes passes by hand.
type paperwork struct {
	*memory
	t       *testing.T
	proxier *Proxier
	ledger  *ledger
}

func newPaperwork(t *testing.T) *paperwork {
	p, m := onPaper(t, cluster(0))
	w := &paperwork{m, t, p, &ledger{}}
	p.data.capture = w.ledger
	return w
}

// wantAsked makes a pass and wants it to look at these Services.
func (w *paperwork) wantAsked(what string, services ...string) {
	w.t.Helper()
	w.ledger.asked = nil
	w.proxier.reconcile(context.Background(), false)
	slices.Sort(w.ledger.asked)
	if !slices.Equal(w.ledger.asked, services) {
		w.t.Errorf("%s: the pass looks at %q, want %q", what, w.ledger.asked, services)
	}
}

func named(name, vip string, change ...func(*corev1.Service)) *corev1.Service {
	s := service(name, vip)
	for _, f := range change {
		f(s)
	}
	return s
}

func annotate(name, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations = map[string]string{"usher-proxy.io/" + name: value} }
}

func TestAPassLooksAtWhatHasChanged(t *testing.T) {
	w := newPaperwork(t)
	a, b := named("a", "10.96.0.1:80"), named("b", "10.96.0.2:80")
	slice := podSlice("a", "one", "10.0.0.1", condition{})
	w.set(a, b, slice)
	w.wantAsked("first", "a", "b")
	w.wantAsked("nothing")
	w.set(b, slice, a)
	w.wantAsked("another order")
	w.set(a, b, podSlice("a", "one", "10.0.0.2", condition{}))
	w.wantAsked("an endpoint", "a")
	w.set(a, b, podSlice("a", "one", "10.0.0.2", condition{}))
	w.wantAsked("the same in another slice")
	w.set(a, b, named("c", "10.96.0.3:80"))
	w.wantAsked("a slice goes, a Service comes", "a", "c")
	w.set(a)
	w.wantAsked("two go")
	if n := len(w.proxier.listeners); n != 1 {
		t.Errorf("%d listeners, want 1", n)
	}
	w.proxier.cfg.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.77")}
	w.wantAsked("another address of the node", "a")
	w.ledger.asked = nil
	w.proxier.reconcile(context.Background(), true)
	if len(w.ledger.asked) != 1 {
		t.Errorf("a pass that verifies looks at %q", w.ledger.asked)
	}
}

// A listener that has work to do between changes is looked at when that is due.
func TestAPassLooksAtWhatIsDue(t *testing.T) {
	w := newPaperwork(t)
	w.ledger.refuse = "missing"
	udp := func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }
	w.set(
		named("calm", "10.96.0.1:80"),
		named("affine", "10.96.0.2:80", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }),
		named("draining", "10.96.0.3:80", annotate("drain-timeout", "1s")),
		named("missing", "10.96.0.4:80"),
		named("slow", "10.96.0.5:80", annotate("slow-start", "1h")), podSlice("slow", "one", "10.0.0.1", condition{}),
		named("udp", "10.96.0.6:80", udp),
	)
	w.wantAsked("first", "affine", "calm", "draining", "missing", "slow", "udp")
	w.wantAsked("again", "affine", "missing")
	w.ledger.refuse = ""
	w.wantAsked("the socket can be had", "affine", "missing")
	w.wantAsked("now it is there", "affine")

	l := w.proxier.listeners[Key{ServicePort{"default", "draining", "", tcpProtocol}, IPv4}]
	l.active.Add(1)
	w.wantAsked("a connection may have to end", "affine", "draining")
	l.active.Add(-1)

	w.proxier.listeners[Key{ServicePort{"default", "udp", "", udpProtocol}, IPv4}].restless.Store(true)
	w.wantAsked("somebody wakes the loop", "affine", "udp")
	w.wantAsked("once", "affine")

	w.objects.Slices = append(slices.Clone(w.objects.Slices), podSlice("slow", "two", "10.0.0.2", condition{}))
	w.wantAsked("a newcomer", "affine", "slow")
	w.wantAsked("it is not due", "affine")
	if w.proxier.alarm == nil {
		t.Error("nothing wakes the loop when the newcomer's share is to grow")
	}
	for _, r := range w.proxier.restless {
		if !r.at.IsZero() {
			if in := time.Until(r.at); in < 5*time.Minute || in > 7*time.Minute {
				t.Errorf("the newcomer's share grows in %s", in)
			}
			r.at = time.Now()
		}
	}
	w.wantAsked("it is due", "affine", "slow")
}

// What a capture still leads to stays, and may come back.
func TestAListenerThatIsGoneStaysAsLongAsRulesLeadThere(t *testing.T) {
	w := newPaperwork(t)
	a, b := named("a", "10.96.0.1:80"), named("b", "10.96.0.2:80")
	key := Key{ServicePort{"default", "a", "", tcpProtocol}, IPv4}
	w.set(a, b)
	w.wantAsked("first", "a", "b")
	l := w.proxier.listeners[key]

	w.ledger.failed = map[Family]error{IPv4: errors.New("locked")}
	w.set(b)
	w.wantAsked("a goes, and the rules cannot be written")
	w.wantAsked("still")
	if w.proxier.listeners[key] != l || slices.Contains(w.proxier.serving, l) {
		t.Error("the listener is gone, or still served")
	}
	w.set(a, b)
	w.wantAsked("it comes back", "a")
	if w.proxier.listeners[key] != l || !slices.Contains(w.proxier.serving, l) || len(w.proxier.gone) > 0 {
		t.Error("it has come back, and its listener has not")
	}
	w.set(b)
	w.wantAsked("it goes again")
	w.ledger.failed = nil
	w.wantAsked("the rules are written")
	if len(w.proxier.listeners) != 1 || len(w.proxier.gone) > 0 {
		t.Errorf("listeners %v, gone %v", w.proxier.listeners, w.proxier.gone)
	}
}

// Problems are told as long as they last, though nobody computes them anew.
func TestProblemsStayWhileNothingChanges(t *testing.T) {
	w := newPaperwork(t)
	w.set(named("a", "10.96.0.1:80", born(1)), named("b", "10.96.0.1:80", born(2)))
	for _, what := range []string{"first", "again"} {
		w.proxier.reconcile(context.Background(), false)
		if n := len(w.proxier.reporter.known); n != 1 {
			t.Errorf("%s: %d problems", what, n)
		}
	}
	w.set(named("b", "10.96.0.1:80", born(2)))
	w.proxier.reconcile(context.Background(), false)
	if n := len(w.proxier.reporter.known); n != 0 {
		t.Errorf("%d problems after the other one has gone", n)
	}
}

// The cluster allocates ClusterIPs, the others are written by whoever may.
func TestAClusterIPGoesBeforeAnOlderClaim(t *testing.T) {
	ports, problems := told(
		loadBalancer("old", "10.96.0.1", "10.96.0.2", born(1)),
		named("young", "10.96.0.2:80", born(2)))
	if !strings.Contains(ports, "default/young [10.96.0.2:80]") || !strings.Contains(problems, "10.96.0.2:80 is not served for default/old: default/young has it") {
		t.Errorf("%s\n%s", ports, problems)
	}
}
