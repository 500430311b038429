package conformance

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/usher-proxy/usher/test/netns"
)

// Object is a Kubernetes object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Store is where the proxy reads its objects from.
type Store interface {
	// Apply makes the objects what they are here, status included. A Node with a
	// deletion timestamp is one that is about to be deleted.
	Apply(...Object)
	Delete(...Object)
}

// World is two nodes with pods, a client outside of the cluster, and a proxy on
// each node that serves what is in the Store.
//
//	node-1 192.0.2.1, 2001:db8::1, zone-a   node-2 192.0.2.3, 2001:db8::3, zone-b
//	  pod-1, pod-2, pod-3  bridged, serve     remote-1, remote-2  bridged, serve
//	  client               bridged            remote-client       bridged
//	  routed               routed
//	  routed-server        routed, serves
//	a client outside 192.0.2.2, 2001:db8::2
//
// A pod that serves is an HTTP server: on port 8080 it answers with its name, on
// 8081 with its name and "-alt", and on the path /clientip of both with the
// address that the request came from. It answers datagrams to these ports alike.
type World struct {
	*netns.Node // node-1; its Client is the one outside
	Store
	Proxies []Process // on node-1 and node-2; all cases share them

	Pods   []*netns.Pod // the three bridged pods of node-1 that serve
	Client *netns.Pod   // a bridged pod that serves nothing
	Routed *netns.Pod   // the same, on an interface whose host end has no address

	// RoutedServer is a routed pod of node-1 that serves, as routed-server.
	RoutedServer *netns.Pod

	Node2        *netns.Node
	Remotes      []*netns.Pod // the two pods of node-2 that serve
	RemoteClient *netns.Pod   // a bridged pod of node-2 that serves nothing

	proxy   Proxy
	numbers *numbers
	marker  *corev1.Service // the World's own, without its ports

	root *testing.T // of the World
	t    *testing.T // of the case that runs now
}

// NewWorld builds the nodes and their pods. Store and proxy are still missing.
func NewWorld(t *testing.T) *World { return newWorld(t, netns.Bridged) }

// NewRoutedWorld is NewWorld with routed pods where others are bridged, but for
// the clients. It is for a proxy that is NAT in the kernel: a reply from one pod
// of a bridge to another passes it only where br_netfilter is loaded, which the
// lab does without.
func NewRoutedWorld(t *testing.T) *World { return newWorld(t, netns.Routed) }

func newWorld(t *testing.T, servers netns.PodKind) *World {
	w := &World{Node: netns.NewNode(t, "node-1"), Proxies: make([]Process, 2), numbers: &numbers{}, root: t, t: t}
	w.Node2 = w.Node.AddNode("node-2")
	for i := range 3 {
		w.Pods = append(w.Pods, addServer(w.Node, servers, fmt.Sprintf("pod-%d", i+1)))
	}
	w.Client = w.AddPod(netns.Bridged, "client")
	w.Routed = w.AddPod(netns.Routed, "routed")
	w.RoutedServer = addServer(w.Node, netns.Routed, "routed-server")
	for i := range 2 {
		w.Remotes = append(w.Remotes, addServer(w.Node2, servers, fmt.Sprintf("remote-%d", i+1)))
	}
	w.RemoteClient = w.Node2.AddPod(netns.Bridged, "remote-client")

	w.Node.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6,
		loadBalancerCIDRv4, loadBalancerCIDRv6, externalCIDRv4, externalCIDRv6,
		w.Node.PodCIDRv4, w.Node.PodCIDRv6)
	w.Node2.RouteFromClient(w.Node2.PodCIDRv4, w.Node2.PodCIDRv6)
	w.marker = w.service("marker")
	return w
}

// addServer adds a pod that serves.
func addServer(node *netns.Node, kind netns.PodKind, name string) *netns.Pod {
	pod := node.AddPod(kind, name)
	// Many clients behind one address of a node, each with its own clock, come at
	// rates at which a port is soon used again: a connection in TIME_WAIT would
	// take the SYN for an old one and drop it.
	pod.Sysctl("net/ipv4/tcp_max_tw_buckets", "0")
	for _, addr := range []func(uint16) netip.AddrPort{pod.AddrPort4, pod.AddrPort6} {
		pod.ServeHTTP(name, addr(8080))
		pod.ServeHTTP(name+"-alt", addr(8081))
		serveDatagrams(pod.NS, name, addr(8080))
		serveDatagrams(pod.NS, name+"-alt", addr(8081))
	}
	return pod
}

// forCase returns the World for one case, whose test t is.
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
