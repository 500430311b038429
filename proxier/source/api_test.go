package source

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func newTestAPI(t *testing.T, f *fakeAPI, log *logbook) *API {
	t.Helper()
	a, err := NewAPI(Config{REST: f.config(), NodeName: "n1", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAPIListsAndWatches(t *testing.T) {
	for name, streaming := range map[string]bool{"lists": false, "streams the list": true} {
		t.Run(name, func(t *testing.T) {
			f, log := newFakeAPI(t), newLogbook(t)
			f.streaming = streaming
			f.put("services", apiService("a", "10.96.0.1"))
			f.put("endpointslices", apiSlice("a-1"))
			f.put("nodes", apiNode("n1"))
			a := newTestAPI(t, f, log)
			run(t, a)
			objects := until(t, a, "the lists", has("default/a", "node n1", "slice default/a-1"))
			if s := objects.Services[0]; s.ManagedFields != nil || len(s.Annotations) != 1 || objects.Node.Status.Images != nil {
				t.Errorf("kept what nobody reads: %+v, %+v", s, objects.Node)
			}
			f.put("services", apiService("b", "10.96.0.2"))
			until(t, a, "added", has("default/a", "default/b", "node n1", "slice default/a-1"))
			f.delete("services", "default/a")
			until(t, a, "deleted", has("default/b", "node n1", "slice default/a-1"))
			f.delete("endpointslices", "default/a-1")
			until(t, a, "slice deleted", has("default/b", "node n1"))
			f.delete("nodes", "/n1")
			until(t, a, "node deleted", has("default/b"))
			if n := log.count("warning"); n > 0 {
				t.Errorf("%d warnings", n)
			}
			watches := a.Watches()
			for i, resource := range []string{"services", "endpointslices", "nodes"} {
				if w := watches[i]; w.Resource != resource || time.Since(w.LastContact) > time.Minute || !w.Synced || w.Lists != 1 {
					t.Errorf("the watch of %s is %+v", resource, w)
				}
			}
		})
	}
}

func TestAPISelectors(t *testing.T) {
	f := newFakeAPI(t)
	a := newTestAPI(t, f, newLogbook(t))
	run(t, a)
	until(t, a, "the lists", has())
	for resource, want := range map[string][2]string{
		"services":       {"!service.kubernetes.io/service-proxy-name", "spec.clusterIP!=None"},
		"endpointslices": {"!service.kubernetes.io/headless", ""},
		"nodes":          {"", "metadata.name=n1"},
	} {
		within(t, "a watch on "+resource, func() bool { return len(f.requestsFor(resource)) >= 3 })
		for _, r := range f.requestsFor(resource) {
			if got := [2]string{r.query.Get("labelSelector"), r.query.Get("fieldSelector")}; got != want {
				t.Errorf("%s: selectors %q, want %q", resource, got, want)
			}
		}
	}
}

// Beside another proxy, usher serves only the Services that name it.
func TestAPIServesTheServicesOfItsProxyName(t *testing.T) {
	f := newFakeAPI(t)
	a, err := NewAPI(Config{REST: f.config(), Log: newLogbook(t), ServiceProxyName: "usher"})
	if err != nil {
		t.Fatal(err)
	}
	run(t, a)
	until(t, a, "the lists", has())
	if got := f.requestsFor("services")[0].query.Get("labelSelector"); got != labelProxyName+"=usher" {
		t.Errorf("selector %q", got)
	}
	if n := len(f.requestsFor("nodes")); n > 0 {
		t.Errorf("%d requests for a Node without a name", n)
	}
}

// Nothing may be programmed from a part of the lists.
func TestAPINeedsBothLists(t *testing.T) {
	for _, late := range []string{"services", "endpointslices"} {
		t.Run(late, func(t *testing.T) {
			f := newFakeAPI(t)
			f.put("services", apiService("a", "10.96.0.1"))
			f.put("endpointslices", apiSlice("a-1"))
			f.set(func() { f.held[late] = true })
			a := newTestAPI(t, f, newLogbook(t))
			run(t, a)
			early := map[string]string{"services": "endpointslices", "endpointslices": "services"}[late]
			within(t, "the other list is in", func() bool { return len(f.requestsFor(early)) >= 3 && len(f.requestsFor(late)) > 0 })
			if objects, complete := a.Objects(); complete || len(objects.Services)+len(objects.Slices) > 0 {
				t.Errorf("complete=%v with %v", complete, names(objects))
			}
			f.set(func() { f.held[late] = false })
			until(t, a, "both lists", has("default/a", "slice default/a-1"))
		})
	}
}

func TestAPIEmptyListsAreComplete(t *testing.T) {
	f := newFakeAPI(t)
	a := newTestAPI(t, f, newLogbook(t))
	run(t, a)
	until(t, a, "the lists", has())
}

func TestAPINodeIsNotNeeded(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(f *fakeAPI)
		want  string
	}{
		"forbidden": {func(f *fakeAPI) { f.forbidden["nodes"] = true }, "usher's user may list and watch nodes"},
		"missing":   {func(*fakeAPI) {}, "see --node-name"},
		"slow":      {func(f *fakeAPI) { f.held["nodes"] = true }, "until it can be read"},
	} {
		t.Run(name, func(t *testing.T) {
			f, log := newFakeAPI(t), newLogbook(t)
			f.put("services", apiService("a", "10.96.0.1"))
			f.set(func() { test.spoil(f) })
			a := newTestAPI(t, f, log)
			run(t, a)
			until(t, a, "the Service", has("default/a"))
			if log.count("warning going on without the own Node", test.want) != 1 {
				t.Error("the log does not say it")
			}
			f.set(func() { f.held["nodes"], f.forbidden["nodes"] = false, false })
			f.put("nodes", apiNode("n1"))
			until(t, a, "the Node, late", has("default/a", "node n1"))
		})
	}
}

// While the API server is away the last state is kept; what has happened
// meanwhile is seen when it is back.
func TestAPIGoesAwayAndComesBack(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		f, log := newFakeAPI(t), newLogbook(t)
		f.put("services", apiService("a", "10.96.0.1"))
		f.put("services", apiService("gone", "10.96.0.2"))
		a := newTestAPI(t, f, log)
		run(t, a)
		until(t, a, "the lists", has("default/a", "default/gone"))

		f.goAway()
		within(t, "the log says it", func() bool { return log.count("warning cannot", "at the API server 127.0.0.1") > 0 })
		if objects, complete := a.Objects(); !complete || !has("default/a", "default/gone")(objects) {
			t.Errorf("complete=%v with %v", complete, names(objects))
		}
		f.delete("services", "default/gone")
		f.put("services", apiService("new", "10.96.0.3"))
		if restarted {
			f.forget() // the informer finds out by a new list
		}
		f.comeBack()
		until(t, a, "what has happened", has("default/a", "default/new"))
		within(t, "the log says that too", func() bool { return log.count("info", "answers again") > 0 })
		if began, ended := log.count("warning cannot", "connection refused"), log.count("answers again, after"); began > 1 || ended != 1 {
			t.Errorf("%d and %d lines for one outage", began, ended)
		}
	}
}

// A connection that is cut, or never comes about, is a fault like one that is refused, though
// client-go makes nothing of it.
func TestAPITellsOfWatchesWithoutAnAnswer(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		f, log := newFakeAPI(t), newLogbook(t)
		f.streaming = streaming
		f.put("services", apiService("a", "10.96.0.1"))
		var away atomic.Bool
		config := f.config()
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if away.Load() {
					return nil, io.EOF
				}
				return next.RoundTrip(r)
			})
		})
		a, err := NewAPI(Config{REST: config, NodeName: "n1", Log: log})
		if err != nil {
			t.Fatal(err)
		}
		run(t, a)
		until(t, a, "the list", has("default/a"))
		away.Store(true)
		f.server.CloseClientConnections()
		within(t, "it is told", func() bool { return log.count("warning cannot", "EOF", "what is known stays in use") == 1 })
		away.Store(false)
		within(t, "its end is told", func() bool { return log.count("info", "answers again") == 1 })
	}
}

func TestAPIStartsBeforeItsServer(t *testing.T) {
	f, log := newFakeAPI(t), newLogbook(t)
	f.put("services", apiService("a", "10.96.0.1"))
	f.goAway()
	a := newTestAPI(t, f, log)
	run(t, a)
	within(t, "the log says it", func() bool {
		return log.count("warning cannot", "at the API server", "connection refused", "is the API server running") == 1
	})
	if _, complete := a.Objects(); complete {
		t.Error("complete without an API server")
	}
	f.comeBack()
	until(t, a, "the list", has("default/a"))
}

// Run ends at once, also while the informers wait to try again.
func TestAPIStopsWithoutServer(t *testing.T) {
	f, log := newFakeAPI(t), newLogbook(t)
	f.goAway()
	stop := run(t, newTestAPI(t, f, log))
	within(t, "an attempt", func() bool { return log.count("cannot") == 1 })
	start := time.Now()
	stop()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// A Node that only says that it is alive is no change.
func TestMatters(t *testing.T) {
	service := apiService("a", "10.96.0.1")
	again := service.DeepCopy()
	if matters(service, again) {
		t.Error("a Service that a list repeats matters")
	}
	again.ResourceVersion = "2"
	if !matters(service, again) {
		t.Error("a Service that has changed does not matter")
	}
	node := apiNode("n1")
	alive := node.DeepCopy()
	alive.ResourceVersion = "2"
	if matters(node, alive) {
		t.Error("a Node that is alive matters")
	}
	alive.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}
	if !matters(node, alive) {
		t.Error("a taint does not matter")
	}
}

func TestAPIWarnsAboutItsOwnService(t *testing.T) {
	f, log := newFakeAPI(t), newLogbook(t)
	host, port, _ := strings.Cut(strings.TrimPrefix(f.server.URL, "http://"), ":")
	kubernetes := apiService("kubernetes", host)
	kubernetes.Spec.Ports[0].Port = atoi(t, port)
	f.put("services", kubernetes)
	a := newTestAPI(t, f, log)
	run(t, a)
	until(t, a, "the list", has("default/kubernetes"))
	within(t, "a warning", func() bool { return log.count("warning usher talks to the API server through", "--master") == 1 })
}

func TestEventsReachTheAPI(t *testing.T) {
	f, log := newFakeAPI(t), newLogbook(t)
	f.put("services", apiService("a", "10.96.0.1"))
	f.put("nodes", apiNode("n1"))
	a := newTestAPI(t, f, log)
	run(t, a)
	until(t, a, "the lists", has("default/a", "node n1"))

	about := Ref{"Service", "default", "a"}
	for range 3 {
		a.Event(about, "PortRefused", "SCTP is not served")
	}
	a.Event(Ref{Kind: "Node", Name: "n1"}, "PortsExhausted", strings.Repeat("ü", 1000))
	within(t, "the events", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.events) == 2 && len(f.patches) == 2
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	service, node := f.events[0], f.events[1]
	for what, equal := range map[string]bool{
		"UID":       service.InvolvedObject.UID == "uid-a" && node.InvolvedObject.UID == "uid-n1",
		"object":    service.InvolvedObject.Kind == "Service" && service.InvolvedObject.Namespace == "default" && service.InvolvedObject.Name == "a",
		"namespace": service.Namespace == "default" && node.Namespace == "default" && node.InvolvedObject.Namespace == "",
		"source":    service.Source == corev1.EventSource{Component: "usher", Host: "n1"},
		"text":      service.Type == "Warning" && service.Reason == "PortRefused" && service.Message == "SCTP is not served",
		"length":    len(node.Message) == 1024,
		"count":     slices.ContainsFunc(f.patches, func(p string) bool { return strings.Contains(p, `"count":3`) }),
	} {
		if !equal {
			t.Errorf("%s: got %+v and %+v, patches %q", what, service, node, f.patches)
		}
	}
}

func TestEventNeverBlocks(t *testing.T) {
	f, log := newFakeAPI(t), newLogbook(t)
	a := newTestAPI(t, f, log)
	for i := range eventQueue + 10 { // Run was not called
		a.Event(Ref{"Service", "default", "a"}, "Full", strings.Repeat("x", i%7))
	}
	if log.count("warning", "new ones are dropped") != 1 {
		t.Errorf("got %q", log.all())
	}
}

func TestEventsForbidden(t *testing.T) {
	f, log := newFakeAPI(t), newLogbook(t)
	f.set(func() { f.forbidden["events"] = true })
	a := newTestAPI(t, f, log)
	run(t, a)
	until(t, a, "the lists", has())
	for range 5 {
		a.Event(Ref{"Service", "default", "a"}, "PortRefused", "why")
	}
	within(t, "all requests", func() bool { return len(f.requestsFor("events")) == 5 })
	within(t, "one warning", func() bool { return log.count("warning cannot write Kubernetes Events", "verbs create and patch") == 1 })
}
