package conformance

import discoveryv1 "k8s.io/api/discovery/v1"

// endpointCases are about which endpoints of a Service are used.
var endpointCases = []Case{
	{Number: 19, Name: "conditions that nobody set", run: nilConditions},
	{Number: 20, Name: "serving but not ready and not terminating: unused", run: servingOnly},
	{Number: 21, Name: "a ready endpoint keeps terminating ones out", run: readyFirst},
	{Number: 22, Name: "only terminating endpoints that still serve: used", run: allTerminating},
	{Number: 23, Name: "only terminating endpoints that do not serve: refused", run: allTerminated},
	{Number: 26, Name: "publishNotReadyAddresses", run: publishNotReady},
	{Number: 27, Name: "one address in two slices, ready in one and terminating in the other", run: addressTwice},
	{Number: 28, Name: "an endpoint moves between slices", run: endpointMoves},
}

func nilConditions(w *World) {
	s := w.service("nil", tcp("", 80))
	ends := slicesOf(s, "a", "", 8080, w.Pods...)
	for _, o := range ends {
		for i := range o.(*discoveryv1.EndpointSlice).Endpoints {
			o.(*discoveryv1.EndpointSlice).Endpoints[i].Conditions = discoveryv1.EndpointConditions{}
		}
	}
	w.apply(objects(s, ends)...)
	w.answers(w.inside(), vips(s, 80), "pod-1", "pod-2", "pod-3")
}

func servingOnly(w *World) {
	alone, beside := w.service("serving", tcp("", 80)), w.service("serving-beside", tcp("", 80))
	serving := conditions(w.Pods[0], no, yes, no)
	w.apply(objects(alone, slicesWith(alone, "a", "", 8080, serving))...)
	w.apply(objects(beside, slicesWith(beside, "a", "", 8080, serving, ready(w.Pods[1])))...)
	w.refuses(w.inside(), vips(alone, 80)...)
	w.answers(w.inside(), vips(beside, 80), "pod-2")

	// Nor is it used where only terminating ones are left.
	w.Apply(slicesWith(beside, "a", "", 8080, serving, terminating(w.Pods[2]))...)
	w.answers(w.inside(), vips(beside, 80), "pod-3")
}

func readyFirst(w *World) {
	s := w.service("ready-first", tcp("", 80))
	w.apply(objects(s, slicesWith(s, "a", "", 8080, terminating(w.Pods[0]), ready(w.Pods[1]), terminating(w.Pods[2])))...)
	w.answers(w.everywhere(), vips(s, 80), "pod-2")
	// Not if they are in a slice of their own either.
	w.Apply(slicesWith(s, "a", "", 8080, terminating(w.Pods[0]))...)
	w.apply(slicesWith(s, "b", "", 8080, ready(w.Pods[2]))...)
	w.answers(w.everywhere(), vips(s, 80), "pod-3")
}

// allTerminating is a Service whose last pods shut down: they serve on for all
// of their grace period, and no client notices.
func allTerminating(w *World) {
	s := w.service("last-pods", tcp("", 80))
	w.apply(objects(s, slicesOf(s, "a", "", 8080, w.Pods...))...)
	w.answers(w.everywhere(), vips(s, 80), "pod-1", "pod-2", "pod-3")
	last := slicesWith(s, "a", "", 8080, terminating(w.Pods[0]), terminating(w.Pods[1]), terminated(w.Pods[2]))
	for _, vip := range vips(s, 80) {
		w.goesOn(w.inside(), vip, func() {
			w.Apply(slicesWith(s, "a", "", 8080, ready(w.Pods[0]), terminating(w.Pods[1]), terminated(w.Pods[2]))...)
			w.answers(w.everywhere(), vips(s, 80), "pod-1")
			w.Apply(last...)
			w.answers(w.everywhere(), vips(s, 80), "pod-1", "pod-2")
		})
	}
	w.Apply(slicesWith(s, "a", "", 8080, terminated(w.Pods[0]), terminated(w.Pods[1]), terminated(w.Pods[2]))...)
	w.refuses(w.everywhere(), vips(s, 80)...)
}

func allTerminated(w *World) {
	s := w.service("terminated", tcp("", 80))
	w.apply(objects(s, slicesWith(s, "a", "", 8080, terminated(w.Pods[0]), terminated(w.Remotes[0])))...)
	w.refuses(w.everywhere(), vips(s, 80)...)
}

// publishNotReady is told to a proxy by the conditions alone: with it a pod is
// ready whatever becomes of it.
func publishNotReady(w *World) {
	published := conditions(w.Pods[0], yes, no, yes)
	with, without := w.service("published", tcp("", 80)), w.service("unpublished", tcp("", 80))
	with.Spec.PublishNotReadyAddresses = true
	w.apply(objects(with, slicesWith(with, "a", "", 8080, published))...)
	w.apply(objects(without, slicesWith(without, "a", "", 8080, terminated(w.Pods[0])))...)
	w.answers(w.everywhere(), vips(with, 80), "pod-1")
	w.refuses(w.everywhere(), vips(without, 80)...)

	// The Service's field comes first, and says nothing by itself.
	without.Spec.PublishNotReadyAddresses = true
	w.Apply(without)
	w.settle()
	w.refuses(w.inside(), vips(without, 80)...)
	w.Apply(slicesWith(without, "a", "", 8080, published)...)
	w.answers(w.inside(), vips(without, 80), "pod-1")
}

// addressTwice has a pod with the address of one that is not quite gone. With
// another ready one beside it, it is used only if it counts as ready.
func addressTwice(w *World) {
	live, ghost := ready(w.Pods[0]), terminating(w.Pods[0])
	both := []string{"pod-1", "pod-2"}
	for _, order := range []struct {
		service string
		a, z    endpoint
	}{
		{"live-then-ghost", live, ghost},
		{"ghost-then-live", ghost, live},
	} {
		s := w.service(order.service, tcp("", 80))
		w.apply(objects(s, slicesWith(s, "m", "", 8080, ready(w.Pods[1])))...)
		w.apply(slicesWith(s, "a", "", 8080, order.a)...)
		w.settle()
		w.apply(slicesWith(s, "z", "", 8080, order.z)...)
		w.settle()
		w.answers(w.inside(), vips(s, 80), both...)
		// The same slices, changed in the other order.
		w.Apply(slicesWith(s, "z", "", 8080, order.a)...)
		w.Apply(slicesWith(s, "a", "", 8080, order.z)...)
		w.settle()
		w.answers(w.inside(), vips(s, 80), both...)
	}
}

// endpointMoves moves a pod from one slice to another, so that it is in both for
// a time, or in none.
func endpointMoves(w *World) {
	s := w.service("moves", tcp("", 80))
	moves, stays := w.Pods[0], w.Pods[1]
	a := func(has ...endpoint) { w.Apply(slicesWith(s, "a", "", 8080, has...)...); w.settle() }
	b := func(has ...endpoint) {
		w.Apply(slicesWith(s, "b", "", 8080, append(has, ready(stays))...)...)
		w.settle()
	}
	w.apply(objects(s, slicesOf(s, "a", "", 8080, moves), slicesOf(s, "b", "", 8080, stays))...)
	w.answers(w.everywhere(), vips(s, 80), "pod-1", "pod-2")
	for _, vip := range vips(s, 80) {
		w.goesOn(w.everywhere(), vip, func() {
			b(ready(moves)) // in both
			a()
			a(ready(moves))
			b() // back again
			a() // in none
			b(ready(moves))
			b()
			a(ready(moves))
		})
	}
	w.answers(w.everywhere(), vips(s, 80), "pod-1", "pod-2")
}
