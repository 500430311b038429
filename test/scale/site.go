package scale

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/netns"
)

// A site is two nodes with a client pod each. The machine outside has the API server, and all
// endpoints.
//
//	node-1  usher                               outside  kube-apiserver, etcd
//	node-2  kube-proxy; usher with one Service           10.0.0.0/12, all of it listening
type site struct {
	plan
	t     testing.TB
	usher *node // where all Services are served by usher
	other *node // where they are served by kube-proxy, or one Service by usher
	api   *apiserver.ControlPlane
	store *store

	next        number // of the Service that is made next
	generations map[number]generation
}

// A node is one with a pod to ask from.
type node struct {
	*netns.Node
	client *netns.Pod
}

// newSite has no Services yet.
func newSite(t testing.TB, p plan) *site {
	t.Helper()
	first := netns.NewNode(t, "node-1")
	s := &site{plan: p, t: t, usher: newNode(t, first), other: newNode(t, first.AddNode("node-2")), generations: map[number]generation{}}
	outside := first.Client
	// Endpoints close first: a connection in TIME_WAIT would drop the next one from its port.
	outside.Sysctl("net/ipv4/tcp_max_tw_buckets", "0")
	addLocal(t, outside, backends)
	addLocal(t, outside, netns.ServiceCIDRv4) // where what no proxy serves ends up, and is refused at once
	serveBackends(outside)
	s.api = apiserver.Start(t, outside, netns.ClientIPv4)
	s.api.Apply(s.usher.object(), s.other.object())
	var err error
	s.store, err = newStore(s.api.Admin.Config)
	s.must(err)
	return s
}

func newNode(t testing.TB, n *netns.Node) *node {
	t.Helper()
	n.RouteFromClient(n.PodCIDRv4)
	return &node{n, n.AddPod(netns.Bridged, n.Name+"-client")}
}

// addLocal makes all addresses of a prefix those of a machine.
func addLocal(t testing.TB, ns *netns.NS, p netip.Prefix) {
	t.Helper()
	lo, err := ns.Netlink().LinkByName("lo")
	if err != nil {
		t.Fatalf("%s: %v", ns.Name, err)
	}
	err = ns.Netlink().RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, LinkIndex: lo.Attrs().Index,
		Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
	})
	if err != nil {
		t.Fatalf("%s: add local route %s: %v", ns.Name, p, err)
	}
}

// object is the node's, as kubelet and the controllers would write it.
func (n *node) object() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name},
		Spec:       corev1.NodeSpec{PodCIDR: n.PodCIDRv4.String(), PodCIDRs: []string{n.PodCIDRv4.String()}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: n.IPv4.String()},
		}},
	}
}

// populate makes all Services, and the one that only usher on the other node serves.
func (s *site) populate() {
	s.t.Helper()
	start := time.Now()
	s.must(inParallel(0, number(s.services), func(n number) error { return s.add(n, "") }))
	s.next = number(s.services)
	s.must(s.add(s.single(), singleProxy))
	s.next++
	s.tell("%d Services and %d endpoints are made, in %.1f s", s.services, perService*s.services, time.Since(start).Seconds())
}

// single is the Service of singleProxy, the only one.
func (s *site) single() number { return number(s.services) }

const singleProxy = "single"

// last is the Service of the greatest number among those that stay as they are.
func (s *site) last() number { return number(s.services - 1) }

// add makes the Service of a number, for a proxy, with its endpoints.
func (s *site) add(n number, proxy string) error {
	if err := s.store.create(n.slice(proxy, 0)); err != nil {
		return err
	}
	return s.store.create(n.service(proxy))
}

// remove removes what there is of it.
func (s *site) remove(n number) error {
	for _, o := range []object{n.service(""), n.slice("", 0)} {
		if err := s.store.delete(o); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// tell says how far the benchmark is.
func (s *site) tell(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// needs skips the test if it lacks a program to run.
func needs(t testing.TB, p plan) (kubeProxy string) {
	t.Helper()
	dir, err := apiserver.Binaries() // builds none
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-proxy"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Skipf("%s is not built: test/controlplane/build.sh etcd kube-apiserver kube-proxy does it, in minutes", name)
		}
	}
	if _, err := exec.LookPath("nft"); err != nil && p.reference {
		t.Skip("kube-proxy needs the program nft, of the package nftables")
	}
	return filepath.Join(dir, "kube-proxy")
}
