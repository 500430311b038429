package conformance

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// affinity is about dual stack and session affinity.
var affinity = []Case{
	{Number: 53, Name: "each family of a Service has its own pods", run: dualStack},
	{Number: 54, Name: "ClientIP affinity, on every kind of address", run: affinityEverywhere},
	{Number: 55, Name: "affinity ends after its timeout", run: affinityTimeout},
	{Number: 56, Name: "affinity toggled on a live Service", run: affinityToggled},
	{Number: 57, Name: "the affine endpoint leaves or fails: another one, and that one sticks", run: affinityMoves},
	{Number: 58, Name: "affinity of two ports is independent", run: affinityOfPorts},
}

// forLong is an affinity timeout that no case lives to see the end of.
const forLong = 10800

func affinityEverywhere(w *World) {
	for _, by := range transports {
		w.affinity(by)
	}
}

// affinity is the case by one transport.
func (w *World) affinity(by transport) {
	w.t.Helper()
	s := w.loadBalancer("sticky-"+by.name, nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	sticky(s, forLong)
	by.serves(s)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	for _, f := range by.over(w.everywhere()) {
		for _, addr := range slices.Concat(vips(s, 80), policyAddrs(s, w.Node), nodeIPs(w.Node2, s.Spec.Ports[0].NodePort)) {
			w.sticks(f, addr)
		}
	}
	w.bindsEachClient(by)

	local := w.externallyLocal("sticky-local-" + by.name)
	sticky(local, forLong)
	by.serves(local)
	w.apply(objects(local, slicesOf(local, "a", "", 8080, append(w.Remotes, w.Pods[:2]...)...))...)
	for _, f := range by.over([]from{w.outside()}) {
		for _, addr := range policyAddrs(local, w.Node) {
			if name := w.sticks(f, addr); name != "pod-1" && name != "pod-2" {
				w.t.Errorf("%s, with eTP Local, is answered by %s", addr, name)
			}
		}
	}
}

// bindsEachClient checks that clients of one proxy at one address stick to
// endpoints of their own. That they all have the same may be chance, but not for
// one Service after another.
func (w *World) bindsEachClient(by transport) {
	w.t.Helper()
	for i := range 4 {
		s := w.service(fmt.Sprintf("sticky-%s-%d", by.name, i), tcp("", 80))
		sticky(s, forLong)
		by.serves(s)
		w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
		for _, vip := range vips(s, 80) {
			seen := map[string]bool{}
			for _, f := range by.over(w.viaNode1()) {
				seen[w.sticks(f, vip)] = true
			}
			if len(seen) > 1 {
				return
			}
		}
	}
	w.t.Error("clients that meet one proxy all stick to the same endpoint")
}

// Every new connection starts the timeout anew.
func affinityTimeout(w *World) {
	const timeout = 2 * time.Second
	s := w.service("sticky-timeout", tcp("", 80))
	sticky(s, int32(timeout/time.Second))
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	var all sync.WaitGroup
	for _, vip := range vips(s, 80) {
		w.sticks(w.bridged(), vip)
		all.Go(func() {
			if err := w.bridged().outstays(vip, timeout); err != nil {
				w.t.Errorf("%s: %v", vip, err)
			}
		})
	}
	all.Wait()
}

// outstays connects for longer than the affinity timeout, but always within it
// since the last time, and then stays away for as long until it meets another
// server.
func (f from) outstays(addr netip.AddrPort, timeout time.Duration) error {
	const tries = 10
	begin := time.Now()
	asked := begin
	bound, err := f.get(addr)
	for err == nil && time.Since(begin) < timeout+timeout/2 {
		time.Sleep(timeout / 4)
		last, before := bound, asked
		asked = time.Now()
		bound, err = f.get(addr)
		// On a machine that is too slow it may have been too late.
		if away := time.Since(before); err == nil && bound != last && away < timeout {
			return fmt.Errorf("%s answers, less than %v after %s", bound, away, last)
		}
	}
	for range tries {
		if err != nil {
			return err
		}
		time.Sleep(timeout + timeout/8)
		var another string
		if another, err = f.get(addr); err == nil && another != bound {
			return nil
		}
	}
	return fmt.Errorf("%d times longer away than %v, and still %s answers", tries, timeout, bound)
}

func affinityToggled(w *World) {
	s := w.loadBalancer("toggled", tcp("", 80))
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	addrs := append(vips(s, 80), loadBalancerIPs(s, 80)...)
	all := []string{"pod-1", "pod-2", "pod-3"}
	w.answers(w.inside(), addrs, all...)

	held := w.hold(w.bridged(), addrs[0])
	for range 2 {
		sticky(s, forLong)
		w.Apply(s)
		for _, f := range w.inside() {
			for _, addr := range addrs {
				w.sticks(f, addr)
			}
		}
		s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = corev1.ServiceAffinityNone, nil
		w.Apply(s)
		w.answers(w.inside(), addrs, all...)
	}
	held()
}

func affinityMoves(w *World) {
	s := w.service("sticky-moves", tcp("", 80))
	sticky(s, forLong)
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	f := w.bridged()
	for _, vip := range vips(s, 80) {
		// It is gone, or only not fit any more: either is as good.
		for _, without := range []func(*netns.Pod) []endpoint{
			func(*netns.Pod) []endpoint { return nil },
			func(p *netns.Pod) []endpoint { return []endpoint{unready(p)} },
			func(p *netns.Pod) []endpoint { return []endpoint{terminating(p)} },
		} {
			first := w.sticks(f, vip)
			w.Apply(w.podsBut(s, first, without)...)
			w.settle()
			next := w.sticks(f, vip)
			if next == first {
				w.t.Errorf("%s: %s answers, which has left", vip, next)
			}
			w.Apply(slicesOf(s, "a", "", 8080, w.Pods...)...)
			w.settle()
			if name := w.sticks(f, vip); name != next {
				w.t.Errorf("%s: %s answers, and before %s came back it was %s", vip, name, first, next)
			}
		}
	}
	if w.proxy.Reference() {
		return // it does not know whether an endpoint answers, and has no other try
	}
	refuse, swallow := []string{"REJECT", "--reject-with", "tcp-reset"}, []string{"DROP"}
	w.movesOff(f, vips(s, 80)[0], "iptables", refuse)
	w.movesOff(f, vips(s, 80)[1], "ip6tables", swallow)
}

// podsBut are slices of all pods, with something else for that of a name.
func (w *World) podsBut(s *corev1.Service, name string, instead func(*netns.Pod) []endpoint) []Object {
	var ends []endpoint
	for _, p := range w.Pods {
		if p.Name == name {
			ends = append(ends, instead(p)...)
		} else {
			ends = append(ends, ready(p))
		}
	}
	return slicesWith(s, "a", "", 8080, ends...)
}

// movesOff makes the endpoint of a client unfit to be connected to, by a rule
// with this target, and then mends it.
func (w *World) movesOff(f from, vip netip.AddrPort, iptables string, target []string) {
	w.t.Helper()
	first := w.sticks(f, vip)
	pod := w.Pods[slices.IndexFunc(w.Pods, func(p *netns.Pod) bool { return p.Name == first })]
	mend := func() { pod.Run(iptables, "-F", "INPUT") }
	w.t.Cleanup(mend)
	pod.Run(iptables, append([]string{"-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j"}, target...)...)
	seen, err := f.ask(vip, 16)
	if err != nil || len(seen) != 1 || seen[first] > 0 {
		w.t.Errorf("%s: without %s, which cannot be connected to: %v, %v", vip, first, seen, err)
	}
	mend()
	again, err := f.ask(vip, 16)
	if err != nil || !maps.Equal(again, seen) {
		w.t.Errorf("%s: with %s well again: %v, %v; before: %v", vip, first, again, err, seen)
	}
}

func affinityOfPorts(w *World) {
	s := w.service("sticky-ports", tcp("one", 80), tcp("two", 81))
	sticky(s, forLong)
	w.apply(objects(s, slicesOf(s, "one", "one", 8080, w.Pods...), slicesOf(s, "two", "two", 8081, w.Pods...))...)

	clients := w.everywhere()
	bound := map[string]string{} // by client and address
	bind := func(port uint16) {
		for _, vip := range vips(s, port) {
			for _, f := range clients {
				bound[f.name+vip.String()] = w.sticks(f, vip)
			}
		}
	}
	bind(80)
	slices.Reverse(clients) // so that taking turns gives them others
	bind(81)
	differ := 0
	for i, one := range vips(s, 80) {
		for _, f := range clients {
			if bound[f.name+vips(s, 81)[i].String()] != bound[f.name+one.String()]+"-alt" {
				differ++
			}
		}
	}
	if differ == 0 {
		w.t.Errorf("every client has the same pod on both ports: %v", bound)
	}

	// One port loses a pod, and nobody moves on the other one.
	w.Apply(slicesOf(s, "one", "one", 8080, w.Pods[1:]...)...)
	w.settle()
	for i, one := range vips(s, 80) {
		for _, f := range clients {
			name, before := w.sticks(f, one), bound[f.name+one.String()]
			if name == "pod-1" || before != "pod-1" && name != before {
				w.t.Errorf("%s from %s: without pod-1 %s answers, before it was %s", one, f.name, name, before)
			}
			two := vips(s, 81)[i]
			if name, before := w.sticks(f, two), bound[f.name+two.String()]; name != before {
				w.t.Errorf("%s from %s: %s answers, before it was %s", two, f.name, name, before)
			}
		}
	}
}
