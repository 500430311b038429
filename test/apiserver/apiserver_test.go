package apiserver

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m, Build) }

// given a control plane with a Service, its EndpointSlice and a Node, then usher's user reads
// them but writes nothing; when the server goes away, requests fail; when it is back, all is
// as it was.
func TestUsherReadsWhatAdminApplied(t *testing.T) {
	node := netns.NewNode(t, "node")
	started := time.Now()
	cp := Start(t, node.NS, netns.NodeIPv4)
	t.Logf("ready after %v", time.Since(started))

	service := newService()
	cp.Apply(service, newSlice(), newNode())
	if !netns.ServiceCIDRv4.Contains(netip.MustParseAddr(service.Spec.ClusterIP)) || len(service.Spec.ClusterIPs) != 2 {
		t.Errorf("cluster IPs are %v, want one per family", service.Spec.ClusterIPs)
	}
	t.Run("before", func(t *testing.T) { expectApplied(t, cp.Usher, service) })
	t.Run("forbidden", func(t *testing.T) {
		if err := cp.Usher.Apply(t.Context(), newService()); !apierrors.IsForbidden(err) {
			t.Errorf("writing a Service: %v, want forbidden", err)
		}
		if err := cp.Usher.List(t.Context(), &corev1.NamespaceList{}, ""); !apierrors.IsForbidden(err) {
			t.Errorf("listing Namespaces: %v, want forbidden", err)
		}
	})

	cp.StopServer()
	if err := cp.Usher.List(t.Context(), &corev1.ServiceList{}, ""); err == nil {
		t.Error("the server answers after its stop")
	}
	started = time.Now()
	cp.StartServer()
	t.Logf("ready again after %v", time.Since(started))
	t.Run("after", func(t *testing.T) { expectApplied(t, cp.Usher, service) })

	cp.Delete(service)
	if err := cp.Admin.Get(t.Context(), newService()); !apierrors.IsNotFound(err) {
		t.Errorf("after its deletion, the Service: %v, want not found", err)
	}
}

// expectApplied reads the test's objects as u.
func expectApplied(t *testing.T, u *User, want *corev1.Service) {
	t.Helper()
	services := &corev1.ServiceList{}
	if err := u.List(t.Context(), services, want.Namespace); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(services.Items, func(s corev1.Service) bool { return s.Name == want.Name })
	if i < 0 {
		t.Fatalf("the Service is not among %v", services.Items)
	}
	service := services.Items[i]
	if service.Spec.ClusterIP != want.Spec.ClusterIP {
		t.Errorf("cluster IP %s, want %s", service.Spec.ClusterIP, want.Spec.ClusterIP)
	}
	if ingress := service.Status.LoadBalancer.Ingress; len(ingress) != 1 || ingress[0].IP != "203.0.113.1" {
		t.Errorf("load balancer ingress %v, want 203.0.113.1", ingress)
	}

	endpoints := &discoveryv1.EndpointSliceList{}
	if err := u.List(t.Context(), endpoints, "default"); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, slice := range endpoints.Items {
		if slice.Name == newSlice().Name {
			found = slice.Endpoints[0].Addresses[0] == "10.244.1.2"
		}
	}
	if !found {
		t.Errorf("the EndpointSlice is not among %v", endpoints.Items)
	}

	nodes := &corev1.NodeList{}
	if err := u.List(t.Context(), nodes, ""); err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 1 {
		t.Fatalf("nodes %v, want one", nodes.Items)
	}
	if addrs := nodes.Items[0].Status.Addresses; len(addrs) != 2 || addrs[0].Address != netns.NodeIPv4.String() {
		t.Errorf("node addresses %v", addrs)
	}
}

func newService() *corev1.Service {
	dual := corev1.IPFamilyPolicyRequireDualStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeLoadBalancer,
			IPFamilyPolicy: &dual,
			Ports:          []corev1.ServicePort{{Name: "http", Port: 80}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
			Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}},
		}},
	}
}

func newSlice() *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default",
			Name:      "web-1",
			Labels:    map[string]string{discoveryv1.LabelServiceName: "web"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.2"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
}

func newNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: netns.NodeIPv4.String()},
			{Type: corev1.NodeInternalIP, Address: netns.NodeIPv6.String()},
		}},
	}
}

// given a control plane on loopback, when a program that knows nothing but the kubeconfig's CA
// and token asks it, by name or by address, then it is answered.
func TestStrictTLS(t *testing.T) {
	ns := netns.New(t, "ns")
	cp := Start(t, ns, netip.MustParseAddr("127.0.0.1"))
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, cp.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "kubernetes.default.svc"} {
		out, err := ns.Command(context.Background(), "curl", "--silent", "--show-error", "--cacert", ca,
			"--resolve", host+":6443:127.0.0.1", "--header", "Authorization: Bearer "+cp.Usher.Token,
			"https://"+host+":6443/api/v1/services").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ServiceList") {
			t.Errorf("%s: %v\n%s", host, err, out)
		}
	}
}
