package conformance

import (
	corev1 "k8s.io/api/core/v1"
)

// topology is about hints.
var topology = []Case{
	{Number: 59, Name: "zone hints keep traffic in the zone", run: zoneHints},
	{Number: 60, Name: "zone hints that do not apply are ignored", run: ignoredZoneHints},
	{Number: 61, Name: "node hints: the local pod, and others while it is away", run: nodeHints},
	{Number: 62, Name: "traffic policy Local ignores hints", run: localIgnoresHints},
}

func zoneHints(w *World) {
	s := w.loadBalancer("zones", nodePort("", 80, w.newNodePort()))
	w.addExternalIPs(s)
	// Hints count, and not where an endpoint is. Those that are not ready need none.
	w.apply(objects(s, slicesWith(s, "a", "", 8080,
		ready(w.Pods[0]).forZones("zone-a"),
		ready(w.Pods[1]).forZones("zone-b"),
		ready(w.Remotes[0]).forZones("zone-a", "zone-b"),
		unready(w.Pods[2]), terminating(w.Remotes[1])))...)
	w.answers(w.viaNode1(), append(vips(s, 80), policyAddrs(s, w.Node)...), "pod-1", "remote-1")
	w.answers(w.viaNode2(), append(vips(s, 80), policyAddrs(s, w.Node2)...), "pod-2", "remote-1")
}

func ignoredZoneHints(w *World) {
	s := w.service("no-zones", tcp("", 80))
	a, b := ready(w.Pods[0]), ready(w.Remotes[0])
	ends := func(ends ...endpoint) []Object { return slicesWith(s, "a", "", 8080, ends...) }
	good := ends(a.forZones("zone-a"), b.forZones("zone-b"))
	w.apply(objects(s, good)...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1")

	w.Apply(ends(a.forZones("zone-a"), b)...) // one without
	w.answers(w.everywhere(), vips(s, 80), "pod-1", "remote-1")

	w.Apply(good...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")
	w.changeNode(w.Node, func(n *corev1.Node) { delete(n.Labels, corev1.LabelTopologyZone) })
	w.answers(w.viaNode1(), vips(s, 80), "pod-1", "remote-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1")
	w.changeNode(w.Node, func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "zone-b" })
	w.answers(w.viaNode1(), vips(s, 80), "remote-1")
	w.changeNode(w.Node, func(*corev1.Node) {})
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")

	w.Apply(ends(a.forZones("zone-c"), b.forZones("zone-b"))...) // none for zone-a
	w.answers(w.viaNode1(), vips(s, 80), "pod-1", "remote-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1")

	// Nothing is ready.
	w.Apply(ends(terminating(w.Pods[0]).forZones("zone-a"), terminating(w.Remotes[0]).forZones("zone-b"))...)
	w.answers(w.everywhere(), vips(s, 80), "pod-1", "remote-1")
}

func nodeHints(w *World) {
	s := w.service("nodes", tcp("", 80))
	own := ready(w.Pods[0]).forNodes("node-1").forZones("zone-a")
	inZone := ready(w.Remotes[0]).forNodes("node-2").forZones("zone-a", "zone-b")
	far := ready(w.Remotes[1]).forNodes("node-2").forZones("zone-b")
	ends := func(ends ...endpoint) []Object { return slicesWith(s, "a", "", 8080, ends...) }
	w.apply(objects(s, ends(own, inZone, far))...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1", "remote-2")

	w.Apply(ends(unready(w.Pods[0]), inZone, far)...)
	w.answers(w.viaNode1(), vips(s, 80), "remote-1")
	w.Apply(ends(far)...)
	w.answers(w.viaNode1(), vips(s, 80), "remote-2")
	w.Apply(ends(own, inZone, far)...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1")

	// Incomplete, they leave it to those for zones.
	w.Apply(ends(own, inZone, ready(w.Remotes[1]).forZones("zone-b"))...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1", "remote-1")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1", "remote-2")
}

func localIgnoresHints(w *World) {
	s := w.externallyLocal("local-hints")
	internalLocal(s)
	w.apply(objects(s, slicesWith(s, "a", "", 8080,
		ready(w.Pods[0]).forZones("zone-a").forNodes("node-1"),
		ready(w.Pods[1]).forZones("zone-b").forNodes("node-2"),
		ready(w.Remotes[0]).forZones("zone-a").forNodes("node-1")))...)
	w.answers(w.viaNode1(), vips(s, 80), "pod-1", "pod-2")
	w.answers(w.viaNode2(), vips(s, 80), "remote-1")
	w.answers([]from{w.outside()}, policyAddrs(s, w.Node), "pod-1", "pod-2")
	w.answers(w.viaNode2(), nodeIPs(w.Node, s.Spec.Ports[0].NodePort), "pod-1", "pod-2")
	// Whom eTP Local does not concern, hints do.
	w.answers(w.inside(), policyAddrs(s, w.Node), "pod-1", "remote-1")
	w.answers(w.viaNode2(), policyAddrs(s, w.Node2), "pod-2")
}
