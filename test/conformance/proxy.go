package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// A Proxy is one that the cases are run with.
type Proxy interface {
	// Start runs it on a node and waits until it says that it is ready. It ends
	// with the test.
	Start(t testing.TB, node *netns.Node, o Options) Process
	// Reference tells whether it is not usher, but the measure of the cases.
	Reference() bool
}

// A Process is a proxy that runs on a node.
type Process interface {
	Stop() int // asks it to end, waits, and returns its exit code
	Kill()     // ends it as a crash does
	PID() int
}

// Options are what a case may ask of a proxy, in the words of no proxy.
type Options struct {
	// NodePortAddresses are CIDRs of the node addresses that serve NodePorts, or
	// the word primary. Empty: all, without loopback.
	NodePortAddresses []string
	// LoopbackNodePorts serves them on loopback too.
	LoopbackNodePorts bool
	// SyncPeriod is the time between two passes when nothing changes. Health
	// turns bad after twice that.
	SyncPeriod time.Duration
}

// standard is how a proxy runs if the case does not say otherwise.
func standard() Options { return Options{SyncPeriod: 30 * time.Second} }

// begin makes the World complete: with the objects of its nodes, and the proxy
// on both.
func (w *World) begin(store Store, proxy Proxy) {
	w.t.Helper()
	w.Store, w.proxy = store, proxy
	w.Apply(nodeObject(w.Node), nodeObject(w.Node2))
	w.start(w.t, standard())
}

// nodes are both nodes, in the order of World.Proxies.
func (w *World) nodes() [2]*netns.Node { return [2]*netns.Node{w.Node, w.Node2} }

// start runs the proxy on both nodes until t ends, and waits until they serve.
func (w *World) start(t testing.TB, o Options) {
	t.Helper()
	for i, n := range w.nodes() {
		w.Proxies[i] = w.proxy.Start(t, n, o)
	}
	w.settle()
}

// restartWith stops the proxy on both nodes and starts it with other options.
// When the case ends the proxy is restarted with the standard options.
func (w *World) restartWith(change func(*Options)) {
	w.t.Helper()
	o := standard()
	change(&o)
	w.stop()
	// It runs after the new processes were killed, which end with the case.
	w.t.Cleanup(func() { w.start(w.root, standard()) })
	w.start(w.t, o)
}

// stop stops the proxy on both nodes.
func (w *World) stop() {
	for _, p := range w.Proxies {
		p.Stop()
	}
}

// settle waits until the proxies on both nodes have taken in all objects that
// were applied until now: a Service that came after them is served.
func (w *World) settle() {
	w.t.Helper()
	w.numbers.marker++
	port := uint16(w.numbers.marker)
	s := w.marker.DeepCopy()
	s.Spec.Ports = []corev1.ServicePort{tcp(fmt.Sprintf("marker-%d", port), int32(port))}
	w.Apply(objects(s, slicesOf(s, "a", s.Spec.Ports[0].Name, 8080, w.Pods[0]))...)
	for _, f := range []from{w.node1(), w.node2()} {
		for _, addr := range vips(s, port) {
			netns.Eventually(w.t, "the proxy has taken in all changes, sees "+f.name, func() error { return f.connect(addr) })
		}
	}
}
