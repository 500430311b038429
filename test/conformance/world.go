package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Object is a Kubernetes object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Store is where the proxy reads its objects from.
type Store interface {
	Apply(...Object)
	Delete(...Object)
}

// World is a node with pods, and a proxy that serves what is in the Store.
type World struct {
	*netns.Node
	Store
	Usher *usher.Process

	Pods   []*netns.Pod // three bridged pods, each an HTTP server on ports 8080 and 8081
	Client *netns.Pod   // a bridged pod that serves nothing
	Routed *netns.Pod   // the same, on an interface whose host end has no address

	t *testing.T // of the case that runs now
}

// NewWorld builds the node and its pods. Store and Usher are still missing.
func NewWorld(t *testing.T) *World {
	w := &World{Node: netns.NewNode(t, "node"), t: t}
	for i := range 3 {
		pod := w.AddPod(netns.Bridged, fmt.Sprintf("pod-%d", i+1))
		for _, port := range []uint16{8080, 8081} {
			name := pod.Name
			if port == 8081 {
				name += "-alt"
			}
			pod.ServeHTTP(name, pod.AddrPort4(port))
			pod.ServeHTTP(name, pod.AddrPort6(port))
		}
		w.Pods = append(w.Pods, pod)
	}
	w.Client = w.AddPod(netns.Bridged, "client")
	w.Routed = w.AddPod(netns.Routed, "routed")
	w.Node.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	return w
}

// ForCase returns the World for one case, whose test t is.
func (w *World) forCase(t *testing.T) *World {
	c := *w
	c.t = t
	return &c
}

// apply applies objects, which go away with the case.
func (w *World) apply(objects ...Object) {
	w.t.Helper()
	w.Apply(objects...)
	w.t.Cleanup(func() { w.Delete(objects...) })
}

// from is somebody who connects.
type from struct {
	name string
	*netns.NS
}

// everywhere are a bridged pod, a routed pod, the node itself and a machine
// outside of the cluster that routes Service addresses to the node.
func (w *World) everywhere() []from {
	return append(w.inside(), from{"a client outside", w.Node.Client})
}

func (w *World) inside() []from {
	return []from{{"a bridged pod", w.Client.NS}, {"a routed pod", w.Routed.NS}, {"the node", w.Node.NS}}
}

// get returns what the server behind addr says.
func (f from) get(addr netip.AddrPort) (string, error) {
	answer, err := f.Get("http://" + addr.String())
	if err != nil {
		return "", fmt.Errorf("from %s: %w", f.name, err)
	}
	return answer, nil
}

// connect tries one TCP connect, and says what became of it. It is impatient: a
// SYN that leaves before there is a rule for it is lost with all its repetitions.
func (f from) connect(addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	conn, err := f.DialContext(ctx, "tcp", addr.String())
	if err == nil {
		conn.Close()
	}
	return err
}

// answers waits until addr is answered by exactly these servers, from
// everybody in who.
func (w *World) answers(who []from, addrs []netip.AddrPort, names ...string) {
	w.t.Helper()
	for _, f := range who {
		for _, addr := range addrs {
			netns.Eventually(w.t, fmt.Sprintf("%s is answered by %v from %s", addr, names, f.name), func() error {
				if err := f.connect(addr); err != nil {
					return err
				}
				return f.answeredBy(addr, names)
			})
		}
	}
}

// answeredBy asks often enough that a server that takes part is seen, and one
// that does not would be.
func (f from) answeredBy(addr netip.AddrPort, names []string) error {
	seen := map[string]bool{}
	for range 4 * len(names) {
		answer, err := f.get(addr)
		if err != nil {
			return err
		}
		seen[answer] = true
	}
	for _, name := range names {
		if !seen[name] {
			return fmt.Errorf("%s did not answer, only %v did", name, seen)
		}
	}
	if len(seen) > len(names) {
		return fmt.Errorf("others answered too: %v", seen)
	}
	return nil
}

// refuses waits until a connect to addr is refused, and at once.
func (w *World) refuses(who []from, addrs ...netip.AddrPort) {
	w.t.Helper()
	for _, f := range who {
		for _, addr := range addrs {
			netns.Eventually(w.t, fmt.Sprintf("%s is refused from %s", addr, f.name), func() error {
				if err := f.connect(addr); !errors.Is(err, syscall.ECONNREFUSED) {
					return fmt.Errorf("want ECONNREFUSED, got %v", err)
				}
				return nil
			})
		}
	}
}

// unanswered waits until nobody answers at addr, in whatever way: the contract
// says nothing about an address that is no Service's.
func (w *World) unanswered(who []from, addrs ...netip.AddrPort) {
	w.t.Helper()
	for _, f := range who {
		for _, addr := range addrs {
			netns.Eventually(w.t, fmt.Sprintf("%s is not answered from %s", addr, f.name), func() error {
				if f.connect(addr) == nil {
					return errors.New("it is")
				}
				return nil
			})
		}
	}
}

// silentUDP fails the case if somebody answers a datagram to addr.
func (w *World) silentUDP(f from, addr netip.AddrPort) {
	w.t.Helper()
	conn, err := f.Dial("udp", addr.String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
	conn.Write([]byte("anybody?"))
	if n, err := conn.Read(make([]byte, 100)); err == nil {
		w.t.Errorf("%s answered a datagram with %d bytes", addr, n)
	} else if errors.Is(err, net.ErrClosed) {
		w.t.Error(err)
	}
}
