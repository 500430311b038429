package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// health is about what the proxy tells about itself and its Services.
var health = []Case{
	{Number: 63, Name: "healthCheckNodePort tells local endpoints", run: healthCheck},
	{Number: 64, Name: "terminating pods fail the health check while they are served", run: healthCheckTerminating},
	{Number: 65, Name: "the health check follows the traffic policy", run: healthCheckPolicy},
	{Number: 66, Name: "a proxy that is stalled says so", Netfilter: "it holds the lock of iptables", run: healthStalled},
	{Number: 67, Name: "a node that is about to go", run: healthOfLeavingNode},
	{Number: 68, Name: "the well-known addresses of kube-proxy", run: wellKnown},
}

// checkedLocally is a load balancer Service with eTP Local, of two named ports,
// and its healthCheckNodePort.
func (w *World) checkedLocally(name string) (s *corev1.Service, check int32) {
	s = w.loadBalancer(name, nodePort("main", 80, w.newNodePort()), tcp("alt", 81))
	externalLocal(s)
	s.Spec.HealthCheckNodePort = w.newNodePort()
	return s, s.Spec.HealthCheckNodePort
}

// bothPorts are the slices for the ports of such a Service.
func bothPorts(s *corev1.Service, ends ...endpoint) []Object {
	return append(slicesWith(s, "main", "main", 8080, ends...), slicesWith(s, "alt", "alt", 8081, ends...)...)
}

// checks waits until the health check of a Service says, from everywhere, that
// there are so many local endpoints, and that the proxy itself is healthy or not.
func (w *World) checks(s *corev1.Service, addrs []netip.AddrPort, local int, healthy bool) {
	w.t.Helper()
	what := fmt.Sprintf("tells %d local endpoints, healthy %t", local, healthy)
	w.each(w.everywhere(), addrs, what, func(f from, addr netip.AddrPort) error {
		return f.checks(http.MethodGet, "http://"+addr.String()+"/healthz", s, local, healthy)
	})
}

// checks asks for the health of a Service and compares all of the answer.
func (f from) checks(method, url string, s *corev1.Service, local int, healthy bool) error {
	response, body, err := f.request(method, url)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if local == 0 || !healthy {
		code = http.StatusServiceUnavailable
	}
	if response.StatusCode != code {
		return fmt.Errorf("%s, want %d", response.Status, code)
	}
	for header, want := range map[string]string{
		"Content-Type":                     "application/json",
		"X-Content-Type-Options":           "nosniff",
		"X-Load-Balancing-Endpoint-Weight": fmt.Sprint(local),
	} {
		if got := response.Header.Get(header); got != want {
			return fmt.Errorf("header %s is %q, want %q", header, got, want)
		}
	}
	if method == http.MethodHead {
		return nil // has no body
	}
	want := map[string]any{
		"service":             map[string]any{"namespace": s.Namespace, "name": s.Name},
		"localEndpoints":      float64(local),
		"serviceProxyHealthy": healthy,
	}
	var got map[string]any
	if err := json.Unmarshal(body, &got); err != nil || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("the body is %s, want %v; %v", body, want, err)
	}
	return nil
}

// request sends a request once and returns the answer, whatever its code.
func (f from) request(method, url string) (*http.Response, []byte, error) {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return nil, nil, err
	}
	response, err := f.HTTPClient().Do(request)
	if err != nil {
		return nil, nil, fmt.Errorf("from %s: %w", f.name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

func healthCheck(w *World) {
	s, port := w.checkedLocally("checked")
	w.apply(objects(s, bothPorts(s, ready(w.Pods[0]), ready(w.Pods[1]), unready(w.Pods[2]), ready(w.Remotes[0])))...)
	w.checks(s, nodeIPs(w.Node, port), 2, true) // by address: each has both ports
	w.checks(s, nodeIPs(w.Node2, port), 1, true)
	w.checks(s, bridgeIPs(w.Node, port), 2, true)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
		for _, path := range []string{"/", "/healthz", "/any/path?with=query"} {
			for _, addr := range nodeIPs(w.Node, port) {
				if err := w.outside().checks(method, "http://"+addr.String()+path, s, 2, true); err != nil {
					w.t.Errorf("%s %s of %s: %v", method, path, addr, err)
				}
			}
		}
	}

	w.Apply(bothPorts(s, unready(w.Pods[0]), ready(w.Remotes[0]), ready(w.Remotes[1]))...)
	w.checks(s, nodeIPs(w.Node, port), 0, true)
	w.checks(s, nodeIPs(w.Node2, port), 2, true)
	w.healthCheckOfFamilies()
}

// healthCheckOfFamilies has Services whose families differ, or that have one
// only. In the other one nobody listens.
func (w *World) healthCheckOfFamilies() {
	w.t.Helper()
	both, port := w.checkedLocally("checked-both")
	ends := append(bothPorts(both, ready(w.Pods[0]))[:1], bothPorts(both, ready(w.Pods[0]), ready(w.Pods[1]))[1])
	w.apply(objects(both, ends)...)
	addrs := nodeIPs(w.Node, port)
	w.checks(both, addrs[:1], 1, true)
	w.checks(both, addrs[1:], 2, true)

	one := corev1.IPFamilyPolicySingleStack
	for i, name := range []string{"checked-v4", "checked-v6"} {
		s, port := w.checkedLocally(name)
		s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &one, s.Spec.IPFamilies[i:i+1]
		s.Spec.ClusterIPs = s.Spec.ClusterIPs[i : i+1]
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
		w.apply(objects(s, bothPorts(s, ready(w.Pods[0])))...)
		addrs := nodeIPs(w.Node, port)
		w.checks(s, addrs[i:i+1], 1, true)
		w.refuses(w.everywhere(), addrs[1-i])
	}
}

func healthCheckTerminating(w *World) {
	s, port := w.checkedLocally("checked-terminating")
	served := nodeIPs(w.Node, s.Spec.Ports[0].NodePort)
	w.apply(objects(s, bothPorts(s, ready(w.Pods[0])))...)
	w.checks(s, nodeIPs(w.Node, port), 1, true)
	w.goesOn([]from{w.outside()}, served[0], func() {
		w.Apply(bothPorts(s, terminating(w.Pods[0]))...)
		w.checks(s, nodeIPs(w.Node, port), 0, true)
		w.answers([]from{w.outside()}, append(served, loadBalancerIPs(s, 80)...), "pod-1")
	})
}

func healthCheckPolicy(w *World) {
	s, port := w.checkedLocally("checked-policy")
	w.apply(objects(s, bothPorts(s, ready(w.Pods[0])))...)
	for range 2 {
		externalLocal(s)
		s.Spec.HealthCheckNodePort = port
		w.Apply(s)
		w.checks(s, nodeIPs(w.Node, port), 1, true)
		w.checks(s, nodeIPs(w.Node2, port), 0, true)

		s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyCluster, 0
		w.Apply(s)
		w.settle()
		for _, n := range w.nodes() {
			w.refuses(w.everywhere(), nodeIPs(n, port)...)
		}
	}
}

// A proxyHealth is the JSON of /healthz and /livez.
type proxyHealth struct {
	LastUpdated, CurrentTime time.Time
	NodeEligible             *bool
	Healthy                  bool
	Status                   map[string]struct {
		LastUpdated time.Time
		Healthy     bool
	}
}

// tells waits until the proxy of a node tells its health with this code on a
// path, from everywhere. How it is told must fit the code.
func (w *World) tells(n *netns.Node, path string, code int, healthy, eligible bool) {
	w.t.Helper()
	addrs := nodeIPs(n, 10256)[:1]
	w.each(w.everywhere(), addrs, fmt.Sprintf("%s tells %d", path, code), func(f from, addr netip.AddrPort) error {
		response, body, err := f.request(http.MethodGet, "http://"+addr.String()+path)
		if err != nil {
			return err
		}
		if response.StatusCode != code {
			return fmt.Errorf("%s: %s", response.Status, body)
		}
		return wellTold(response.Header, body, path, healthy, eligible)
	})
}

func wellTold(header http.Header, body []byte, path string, healthy, eligible bool) error {
	var h proxyHealth
	if err := json.Unmarshal(body, &h); err != nil {
		return fmt.Errorf("%w in %s", err, body)
	}
	tellsNode := path == "/healthz"
	switch {
	case header.Get("Content-Type") != "application/json", header.Get("X-Content-Type-Options") != "nosniff":
		return fmt.Errorf("the header is %v", header)
	case h.Healthy != healthy:
		return fmt.Errorf("healthy: %t", h.Healthy)
	case tellsNode != (h.NodeEligible != nil), tellsNode && *h.NodeEligible != eligible:
		return fmt.Errorf("nodeEligible is wrong or missing: %s", body)
	case len(h.Status) != 2 || h.Status["IPv4"].LastUpdated.IsZero() || h.Status["IPv6"].LastUpdated.IsZero():
		return fmt.Errorf("not both families have a status: %s", body)
	case healthy != (h.Status["IPv4"].Healthy && h.Status["IPv6"].Healthy):
		return fmt.Errorf("the status does not fit: %s", body)
	case healthy && eligible && h.LastUpdated.Before(h.CurrentTime):
		return fmt.Errorf("what is healthy was not updated now, but at %s", h.LastUpdated)
	case h.CurrentTime.IsZero():
		return errors.New("no time is told")
	}
	return nil
}

// healthStalled has proxies that cannot write rules. That alone is no fault; a
// change that waits for it too long is.
func healthStalled(w *World) {
	const period = time.Second
	w.restartWith(func(o *Options) { o.SyncPeriod = period })
	s, port := w.checkedLocally("checked-stalled")
	w.apply(objects(s, bothPorts(s, ready(w.Pods[0])))...)
	w.checks(s, nodeIPs(w.Node, port), 1, true)
	w.settle()

	goOn := w.breakIptables()
	w.staysHealthy(2*period+period/2, s, nodeIPs(w.Node, port)[0])
	other := w.service("stalled", tcp("", 80))
	w.apply(objects(other, slicesOf(other, "a", "", 8080, w.Pods[1]))...)
	for _, n := range w.nodes() {
		w.tells(n, "/healthz", http.StatusServiceUnavailable, false, true)
		w.tells(n, "/livez", http.StatusServiceUnavailable, false, true)
	}
	w.checks(s, nodeIPs(w.Node, port), 1, false)
	w.checks(s, nodeIPs(w.Node2, port), 0, false)
	w.unserved(vips(other, 80))

	goOn()
	w.answers(w.everywhere(), vips(other, 80), "pod-2")
	for _, n := range w.nodes() {
		w.tells(n, "/healthz", http.StatusOK, true, true)
		w.tells(n, "/livez", http.StatusOK, true, true)
	}
	w.checks(s, nodeIPs(w.Node, port), 1, true)
}

// staysHealthy checks for some time that nothing turns bad on node-1.
func (w *World) staysHealthy(d time.Duration, s *corev1.Service, check netip.AddrPort) {
	w.t.Helper()
	f, over, again := w.outside(), time.After(d), time.NewTicker(d/20)
	defer again.Stop()
	for {
		select {
		case <-over:
			return
		case <-again.C:
		}
		if err := f.checks(http.MethodGet, "http://"+check.String(), s, 1, true); err != nil {
			w.t.Fatalf("nothing has changed, but the health check: %v", err)
		}
		for _, path := range []string{"/healthz", "/livez"} {
			if _, err := f.getPath(nodeIPs(w.Node, 10256)[0], path); err != nil {
				w.t.Fatalf("nothing has changed, but %v", err)
			}
		}
	}
}

// unserved fails the case if somebody on node-1 is answered.
func (w *World) unserved(addrs []netip.AddrPort) {
	w.t.Helper()
	for _, addr := range addrs {
		if w.node1().connect(addr) == nil {
			w.t.Errorf("%s is answered: the proxy does not stall", addr)
		}
	}
}

// breakIptables makes iptables fail, whoever calls it and for whatever, until
// the returned function is called. In place of its programs, which are names of
// one or two files, there is one that does nothing but fail.
func (w *World) breakIptables() (mend func()) {
	w.t.Helper()
	broken := map[string]bool{}
	for _, name := range []string{"iptables", "ip6tables", "iptables-restore", "ip6tables-restore"} {
		broken[w.program(name)] = true
	}
	mend = func() {
		for file := range broken {
			delete(broken, file)
			if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
				w.t.Errorf("mend %s: %v", file, err)
			}
		}
	}
	for file := range broken {
		if err := unix.Mount(w.program("false"), file, "", unix.MS_BIND, ""); err != nil {
			w.t.Fatalf("break %s: %v", file, err)
		}
	}
	w.t.Cleanup(mend)
	return mend
}

// program is the file of a program.
func (w *World) program(name string) string {
	w.t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

func healthOfLeavingNode(w *World) {
	s, port := w.checkedLocally("checked-leaving")
	w.apply(objects(s, bothPorts(s, ready(w.Pods[0])))...)
	taint := func(key string, effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Spec.Unschedulable = key == corev1.TaintNodeUnschedulable
			n.Spec.Taints = []corev1.Taint{{Key: key, Effect: effect}}
		}
	}
	const leaving = "ToBeDeletedByClusterAutoscaler"
	for _, node := range []struct {
		code   int
		change func(*corev1.Node)
	}{
		{http.StatusOK, func(*corev1.Node) {}},
		{http.StatusServiceUnavailable, taint(leaving, corev1.TaintEffectNoSchedule)},
		{http.StatusOK, taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)}, // only cordoned
		{http.StatusServiceUnavailable, taint(leaving, corev1.TaintEffectPreferNoSchedule)},
		{http.StatusOK, func(*corev1.Node) {}},
		{http.StatusServiceUnavailable, func(n *corev1.Node) { n.DeletionTimestamp = new(metav1.Now()) }},
	} {
		w.changeNode(w.Node, node.change)
		w.tells(w.Node, "/healthz", node.code, true, node.code == http.StatusOK)
		w.tells(w.Node, "/livez", http.StatusOK, true, true)
		w.tells(w.Node2, "/healthz", http.StatusOK, true, true)
		w.checks(s, nodeIPs(w.Node, port), 1, true)
		w.answers([]from{w.outside()}, loadBalancerIPs(s, 80), "pod-1")
	}
}

// wellKnown asks as Kubernetes' own tests do: with curl, from the node.
func wellKnown(w *World) {
	w.tells(w.Node, "/healthz", http.StatusOK, true, true)
	curl := func(url string, words ...string) {
		w.t.Helper()
		out := w.Node.Run("curl", "-i", "-q", "-s", "--connect-timeout", "1", url)
		for _, word := range words {
			if !strings.Contains(out, word) {
				w.t.Errorf("curl %s has no %q: %s", url, word, out)
			}
		}
	}
	curl("http://localhost:10256/healthz", "200 OK", "lastUpdated")
	curl("http://localhost:10249/proxyMode", "200 OK")
	curl("http://localhost:10249/healthz", "200 OK")
	curl("http://localhost:10249/metrics", "200 OK", "kubeproxy_sync_proxy_rules_duration_seconds")
	curl("http://localhost:10249/configz", "200 OK", "application/json", `"kubeproxy.config.k8s.io":`)

	// What is not for load balancers is told on loopback alone.
	w.refuses(w.everywhere(), nodeIPs(w.Node, 10249)[0])
}
