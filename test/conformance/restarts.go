package conformance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// restarts are about what happens to the proxy itself, and to whole sets of pods.
var restarts = []Case{
	{Number: 72, Name: "the proxy, its rules or the API server go away and come back", run: comeBack},
	{Number: 73, Name: "a rolling update without a failed connection", run: rollingUpdate},
}

// Unreliable is a Store whose server can go away.
type Unreliable interface {
	// Away makes it unreachable while f runs.
	Away(f func())
}

// comeback is how long it may take until all is well again.
const comeback = 2 * time.Minute

func comeBack(w *World) {
	s := w.loadBalancer("comeback", nodePort("", 80, w.newNodePort()))
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	addrs := slices.Concat(vips(s, 80), loadBalancerIPs(s, 80), nodeIPs(w.Node, s.Spec.Ports[0].NodePort))
	is := func(pod *netns.Pod) { // what all is, once the proxy has taken it in
		w.t.Helper()
		w.Apply(slicesOf(s, "a", "", 8080, pod)...)
		w.answers(w.everywhere(), addrs, pod.Name)
	}
	is(w.Pods[0])

	// What changes while nobody looks counts from the beginning.
	w.restartWith(func(o *Options) { o.SyncPeriod = time.Second })
	w.answers(w.everywhere(), addrs, "pod-1")
	w.stop()
	w.Apply(slicesOf(s, "a", "", 8080, w.Pods[1])...)
	w.rerunWith(func(o *Options) { o.SyncPeriod = time.Second })
	w.answers(w.everywhere(), addrs, "pod-2")
	for _, p := range w.Proxies {
		p.Kill()
	}
	w.Apply(slicesOf(s, "a", "", 8080, w.Pods[2])...)
	w.rerunWith(func(o *Options) { o.SyncPeriod = time.Second })
	w.answers(w.everywhere(), addrs, "pod-3")

	w.rulesComeBack(addrs, "pod-3")
	is(w.Pods[0])
	if store, ok := w.Store.(Unreliable); ok {
		w.storeComesBack(store, s, addrs, "pod-1")
	}
}

// rulesComeBack has an administrator who deletes all rules and chains of both
// nodes, and then one who only empties those that redirect.
func (w *World) rulesComeBack(addrs []netip.AddrPort, name string) {
	w.t.Helper()
	w.restore("*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n")
	w.servedAgain(addrs, name)
	if w.proxy.Reference() {
		return // it looks for a chain of its own, not for what is in others
	}
	w.flush("nat")
	w.servedAgain(addrs, name)
}

// restore makes these the only rules of the tables on both nodes, in both
// families.
func (w *World) restore(rules string) {
	w.t.Helper()
	w.onNodes(rules, "iptables-restore")
	w.onNodes(rules, "ip6tables-restore")
}

// flush empties the chains of a table on both nodes, in both families.
func (w *World) flush(table string) {
	w.t.Helper()
	w.onNodes("", "iptables", "-t", table, "-F")
	w.onNodes("", "ip6tables", "-t", table, "-F")
}

func (w *World) onNodes(input, program string, args ...string) {
	w.t.Helper()
	for _, n := range w.nodes() {
		c := n.Command(w.t.Context(), program, args...)
		c.Stdin = strings.NewReader(input)
		if out, err := c.CombinedOutput(); err != nil {
			w.t.Fatalf("%s on %s: %v: %s", program, n.Name, err, out)
		}
	}
}

// servedAgain is answers for what takes its time.
func (w *World) servedAgain(addrs []netip.AddrPort, names ...string) {
	w.t.Helper()
	for _, f := range w.everywhere() {
		for _, addr := range addrs {
			netns.EventuallyWithin(w.t, comeback, fmt.Sprintf("%s is served again, sees %s", addr, f.name), func() error {
				if err := f.connect(addr); err != nil {
					return err
				}
				return f.answeredBy(addr, names)
			})
		}
	}
}

// storeComesBack has the API server go away and come back.
func (w *World) storeComesBack(store Unreliable, s *corev1.Service, addrs []netip.AddrPort, name string) {
	w.t.Helper()
	store.Away(func() {
		w.answers(w.everywhere(), addrs, name)
		w.rulesComeBack(addrs, name)
	})
	w.answers(w.everywhere(), addrs, name)
	w.Apply(slicesOf(s, "a", "", 8080, w.Pods[2])...)
	w.servedAgain(addrs, "pod-3")
}

// rollingUpdate replaces the pods of two Services one by one while clients ask
// without a pause. The load balancer of one counts on pods of its node: there is
// one at any time.
func rollingUpdate(w *World) {
	const port = 9073
	cluster, local := w.loadBalancer("rolling", nodePort("", 80, w.newNodePort())), w.loadBalancer("rolling-local", nodePort("", 80, w.newNodePort()))
	externalLocal(local)
	apply := func(ends ...endpoint) {
		w.t.Helper()
		w.Apply(slicesWith(cluster, "a", "", port, ends...)...)
		w.Apply(slicesWith(local, "a", "", port, ends...)...)
		w.settle()
	}
	here, there, newHere, newThere := w.Pods[0], w.Remotes[0], w.Pods[1], w.Remotes[1]
	endHere, endThere := w.serveGently(here, "old", port), w.serveGently(there, "old", port)
	w.apply(objects(cluster, slicesOf(cluster, "a", "", port, here, there))...)
	w.apply(objects(local, slicesOf(local, "a", "", port, here, there))...)
	outside, inside := []from{w.outside()}, []from{w.bridged(), w.node1()}
	asked := []asked{
		{append(inside, w.remote()), vips(cluster, 80)[0]},
		{inside, loadBalancerIPs(cluster, 80)[1]},
		{outside, nodeIPs(w.Node2, cluster.Spec.Ports[0].NodePort)[0]},
		{outside, loadBalancerIPs(local, 80)[0]},
		{outside, nodeIPs(w.Node2, local.Spec.Ports[0].NodePort)[1]},
		{inside, loadBalancerIPs(local, 80)[1]},
	}
	for _, a := range asked {
		w.answers(a.who, []netip.AddrPort{a.addr}, "old")
	}
	w.goOn(asked, func() {
		for _, step := range []struct {
			end       func()
			old, next *netns.Pod
			stays     endpoint
		}{
			{endHere, here, newHere, ready(there)},
			{endThere, there, newThere, ready(newHere)},
		} {
			apply(ready(step.old), step.stays, unready(step.next)) // nobody listens there yet
			w.serveGently(step.next, "new", port)
			apply(ready(step.old), step.stays, ready(step.next))
			apply(terminating(step.old), step.stays, ready(step.next))
			step.end()
			apply(terminated(step.old), step.stays, ready(step.next))
			apply(step.stays, ready(step.next))
		}
	})
	for _, a := range asked {
		w.answers(a.who, []netip.AddrPort{a.addr}, "new")
	}
}

// asked is an address, and who asks it.
type asked struct {
	who  []from
	addr netip.AddrPort
}

// goOn is goesOn for several addresses.
func (w *World) goOn(list []asked, during func()) {
	w.t.Helper()
	if len(list) == 0 {
		during()
		return
	}
	w.goesOn(list[0].who, list[0].addr, func() { w.goOn(list[1:], during) })
}

// serveGently has a pod serve its name on a port, until end is called: that lets
// no request fail that has arrived.
func (w *World) serveGently(pod *netns.Pod, name string, port uint16) (end func()) {
	w.t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { io.WriteString(out, name) })}
	var serving sync.WaitGroup
	for _, addr := range []netip.AddrPort{pod.AddrPort4(port), pod.AddrPort6(port)} {
		listener := pod.Listen("tcp", addr)
		serving.Go(func() { server.Serve(listener) })
	}
	w.t.Cleanup(func() { server.Close(); serving.Wait() })
	return func() {
		w.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			w.t.Errorf("the server of %s does not end: %v", pod.Name, err)
		}
	}
}
