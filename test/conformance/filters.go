package conformance

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/test/netns"
)

// filters are about Services and slices that appear, vanish or are not ours.
var filters = []Case{
	{Number: 12, Name: "only pods that have failed: refused", run: failedPods},
	{Number: 13, Name: "a Service deleted and made again", run: recreated},
	{Number: 14, Name: "a Service of another proxy, by label, is never served", run: otherProxy},
	{Number: 15, Name: "that label toggled on a live Service", Netfilter: "it looks at the rules of iptables", run: otherProxyToggled},
	{Number: 16, Name: "a slice labelled headless does not count", run: headlessSlice},
	{Number: 17, Name: "headless and ExternalName Services are not served", run: withoutClusterIP},
	{Number: 18, Name: "a Service changes its type, to ExternalName and back", Netfilter: "it looks at the rules of iptables", run: typeChanges},
}

// failedPods has the slices of pods that fail: the controller leaves them out,
// and when none is left it writes a slice that has not even ports.
func failedPods(w *World) {
	fails, never := w.service("evicted", tcp("", 80)), w.service("never-ran", tcp("", 80))
	w.apply(objects(fails, slicesOf(fails, "a", "", 8080, w.Pods...))...)
	w.apply(objects(never, placeholders(never))...)
	w.answers(w.inside(), vips(fails, 80), "pod-1", "pod-2", "pod-3")
	w.refuses(w.everywhere(), vips(never, 80)...)

	w.Apply(placeholders(fails)...)
	w.refuses(w.everywhere(), vips(fails, 80)...)
	w.Apply(slicesOf(fails, "a", "", 8080, w.Pods[0])...)
	w.answers(w.inside(), vips(fails, 80), "pod-1")
}

// placeholders are the slices, named as slicesOf with "a" does, of a Service of
// which no pod counts.
func placeholders(s *corev1.Service) []Object {
	list := slicesOf(s, "a", "", 8080)
	for _, o := range list {
		o.(*discoveryv1.EndpointSlice).Ports = nil
		o.(*discoveryv1.EndpointSlice).Endpoints = []discoveryv1.Endpoint{}
	}
	return list
}

func recreated(w *World) {
	s := w.service("again", tcp("", 80))
	ends := slicesOf(s, "a", "", 8080, w.Pods[0])
	w.apply(objects(s, ends)...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
	old := vips(s, 80)
	w.Delete(s)
	w.unanswered(w.inside(), old...)

	again := w.service("again", tcp("", 80))
	w.Apply(again)
	w.answers(w.inside(), vips(again, 80), "pod-1")
	w.unanswered(w.inside(), old...)
}

// proxyName gives a Service to another proxy. Its presence counts, whatever its
// value.
const proxyName = "service.kubernetes.io/service-proxy-name"

func otherProxy(w *World) {
	mesh, empty := w.service("mesh", tcp("", 80)), w.service("mesh-unnamed", tcp("", 80))
	mesh.Labels = map[string]string{proxyName: "mesh"}
	empty.Labels = map[string]string{proxyName: ""}
	for _, s := range []*corev1.Service{mesh, empty} {
		port := w.newNodePort()
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, port
		w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
		addrs := append(vips(s, 80), nodeIPs(w.Node, port)...)
		w.unanswered(w.inside(), addrs...)
		w.unanswered(w.elsewhere(), addrs...)

		s.Spec.Ports = append(s.Spec.Ports, tcp("more", 81))
		s.Spec.Ports[0].Name, s.Spec.Ports[1].NodePort = "http", w.newNodePort()
		w.Apply(objects(s, slicesOf(s, "a", "http", 8080, w.Pods...))...)
		w.unanswered(w.inside(), append(addrs, vips(s, 81)...)...)
		w.unruled(s)
	}
}

func otherProxyToggled(w *World) {
	port := w.newNodePort()
	s, beside := w.service("toggled", nodePort("", 80, port)), w.service("beside", tcp("", 80))
	s.Spec.Type = corev1.ServiceTypeNodePort
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.apply(objects(beside, slicesOf(beside, "a", "", 8080, w.Pods[1]))...)
	addrs := append(vips(s, 80), nodeIPs(w.Node, port)...)
	w.answers(w.inside(), vips(beside, 80), "pod-2")
	held := w.hold(w.inside()[0], vips(beside, 80)[0])
	for _, value := range []string{"mesh", ""} {
		w.answers(w.everywhere(), addrs, "pod-1")
		w.ruled(s)
		s.Labels = map[string]string{proxyName: value}
		w.Apply(s)
		w.unanswered(w.everywhere(), addrs...)
		w.unruled(s)
		s.Labels = nil
		w.Apply(s)
	}
	w.answers(w.everywhere(), addrs, "pod-1")
	held()
}

func headlessSlice(w *World) {
	s := w.service("headless-slice", tcp("", 80))
	s.Labels = map[string]string{corev1.IsHeadlessService: ""} // which says nothing on a Service
	a, b := slicesOf(s, "a", "", 8080, w.Pods[0]), slicesOf(s, "b", "", 8080, w.Pods[1])
	w.apply(objects(s, a, b)...)
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2")

	w.Apply(headless(slicesOf(s, "b", "", 8080, w.Pods[1]))...)
	w.answers(w.inside(), vips(s, 80), "pod-1")
	w.Apply(headless(slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.refuses(w.inside(), vips(s, 80)...)
	w.Apply(slicesOf(s, "b", "", 8080, w.Pods[1])...)
	w.answers(w.inside(), vips(s, 80), "pod-2")
}

// headless gives slices the label of those of a headless Service.
func headless(slices []Object) []Object {
	for _, o := range slices {
		o.GetLabels()[corev1.IsHeadlessService] = ""
	}
	return slices
}

// withoutClusterIP has Services that DNS alone answers for. What they say beside
// does not make them the proxy's.
func withoutClusterIP(w *World) {
	w.settle()
	before := listeners(w.Node)
	none, name := w.service("headless", tcp("", 80)), w.service("elsewhere", tcp("", 80))
	w.addExternalIPs(none)
	none.Spec.ClusterIP, none.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
	w.addExternalIPs(name)
	externalName(name)
	for _, s := range []*corev1.Service{none, name} {
		w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
		w.unanswered(w.everywhere(), externalIPs(s, 80)...)
		w.unruled(s)
	}
	netns.Eventually(w.t, "nobody listens for them", func() error {
		if now := listeners(w.Node); now > before {
			return fmt.Errorf("%d sockets listen, %d did before", now, before)
		}
		return nil
	})
}

func typeChanges(w *World) {
	port := w.newNodePort()
	s := w.service("types", tcp("", 80))
	addrs := append(vips(s, 80), nodeIPs(w.Node, port)...)
	vips, nodePorts := addrs[:2], addrs[2:]
	is := func(change func(*corev1.Service)) *corev1.Service {
		now := s.DeepCopy()
		change(now)
		return now
	}
	clusterIP := is(func(*corev1.Service) {})
	external := is(externalName)
	nodePort := is(func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, port
	})

	w.apply(objects(external.DeepCopy(), slicesOf(s, "a", "", 8080, w.Pods[0]))...)
	w.unanswered(w.everywhere(), addrs...)
	w.unruled(s)
	w.Apply(clusterIP.DeepCopy())
	w.answers(w.everywhere(), vips, "pod-1")
	w.unanswered(w.everywhere(), nodePorts...)
	w.Apply(external.DeepCopy())
	w.unanswered(w.everywhere(), addrs...)
	w.unruled(s)
	w.Apply(nodePort.DeepCopy())
	w.answers(w.everywhere(), addrs, "pod-1")
	w.ruled(s)
	w.Apply(external.DeepCopy())
	w.unanswered(w.everywhere(), addrs...)
	w.unruled(s)
	w.Apply(nodePort.DeepCopy())
	w.answers(w.everywhere(), addrs, "pod-1")
	w.Apply(clusterIP.DeepCopy())
	w.answers(w.everywhere(), vips, "pod-1")
	w.unanswered(w.everywhere(), nodePorts...)
}

// externalName makes a Service one of that type. It keeps its ports.
func externalName(s *corev1.Service) {
	s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "elsewhere.example"
	s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = "", nil, nil, nil
}

// ruled and unruled wait until the rules of node-1 name a Service, or do not.
func (w *World) ruled(s *corev1.Service) {
	w.t.Helper()
	w.rules(s, "has rules", true)
}

func (w *World) unruled(s *corev1.Service) {
	w.t.Helper()
	w.rules(s, "has no rules", false)
}

func (w *World) rules(s *corev1.Service, what string, want bool) {
	w.t.Helper()
	name := s.Namespace + "/" + s.Name
	netns.Eventually(w.t, name+" "+what, func() error {
		for _, save := range []string{"iptables-save", "ip6tables-save"} {
			rules := w.Node.Run(save)
			if got := namesService(rules, name); got != want {
				return fmt.Errorf("%s:\n%s", save, rules)
			}
		}
		return nil
	})
}

// namesService looks for the Service in the comments of rules, where its name
// ends with the comment, with a word or with the name of a port.
func namesService(rules, name string) bool {
	for _, rest := range strings.Split(rules, name)[1:] {
		if strings.IndexAny(rest, "\" :\n") == 0 {
			return true
		}
	}
	return false
}

// listeners is the number of TCP sockets that listen on a node.
func listeners(n *netns.Node) int { return strings.Count(n.Run("ss", "-ltnH"), "\n") }
