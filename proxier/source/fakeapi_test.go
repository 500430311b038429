package source

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// fakeAPI is an API server with the few resources that usher uses. It speaks
// JSON, and ignores selectors but remembers them.
type fakeAPI struct {
	t      *testing.T
	server *httptest.Server

	mu        sync.Mutex
	moved     *sync.Cond // something below has changed
	closing   chan struct{}
	version   int
	objects   map[string]map[string]metav1.Object // by resource and key
	history   []change
	requests  []request
	forbidden map[string]bool
	held      map[string]bool // requests for these resources wait
	streaming bool            // a watch can bring the list too
	events    []corev1.Event
	patches   []string
}

type change struct {
	version  int
	resource string
	kind     string // ADDED, MODIFIED or DELETED
	object   metav1.Object
}

type request struct {
	method, resource, authorization string
	query                           url.Values
}

func newFakeAPI(t *testing.T) *fakeAPI {
	f := &fakeAPI{
		t: t, objects: make(map[string]map[string]metav1.Object), version: 1, closing: make(chan struct{}),
		forbidden: make(map[string]bool), held: make(map[string]bool),
	}
	f.moved = sync.NewCond(&f.mu)
	f.server = httptest.NewServer(f)
	t.Cleanup(f.goAway)
	return f
}

func (f *fakeAPI) config() *rest.Config { return &rest.Config{Host: f.server.URL} }

// goAway ends the server and all its connections.
func (f *fakeAPI) goAway() {
	f.mu.Lock()
	select {
	case <-f.closing:
	default:
		close(f.closing)
	}
	f.moved.Broadcast()
	f.mu.Unlock()
	f.server.CloseClientConnections()
	f.server.Close()
}

// comeBack starts it again at the same address, with what it has now.
func (f *fakeAPI) comeBack() {
	f.t.Helper()
	listener, err := net.Listen("tcp", f.server.Listener.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.closing = make(chan struct{})
	f.mu.Unlock()
	f.server = httptest.NewUnstartedServer(f)
	f.server.Listener.Close()
	f.server.Listener = listener
	f.server.Start()
}

// set changes something and wakes whoever waits.
func (f *fakeAPI) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.moved.Broadcast()
}

func key(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }

func (f *fakeAPI) put(resource string, o metav1.Object) {
	f.set(func() {
		kind := "MODIFIED"
		if f.objects[resource] == nil {
			f.objects[resource] = make(map[string]metav1.Object)
		}
		if f.objects[resource][key(o)] == nil {
			kind = "ADDED"
		}
		f.version++
		o.SetResourceVersion(strconv.Itoa(f.version))
		f.objects[resource][key(o)] = o
		f.history = append(f.history, change{f.version, resource, kind, o})
	})
}

func (f *fakeAPI) delete(resource, key string) {
	f.set(func() {
		f.version++
		f.history = append(f.history, change{f.version, resource, "DELETED", f.objects[resource][key]})
		delete(f.objects[resource], key)
	})
}

// forget makes an API server that was restarted: nobody can watch from an
// earlier version.
func (f *fakeAPI) forget() {
	f.set(func() { f.history = []change{{version: f.version}} })
}

func (f *fakeAPI) requestsFor(resource string) []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.requests), func(r request) bool { return r.resource != resource })
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource := parts[len(parts)-1]
	if slices.Contains(parts, "events") {
		resource = "events"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request{r.Method, resource, r.Header.Get("Authorization"), r.URL.Query()})
	for f.held[resource] && !f.done(r) {
		f.wait(r)
	}
	w.Header().Set("Content-Type", "application/json")
	watch, initial := r.URL.Query().Get("watch") != "", r.URL.Query().Get("sendInitialEvents") != ""
	switch {
	case f.forbidden[resource]:
		f.fail(w, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", nil))
	case resource == "events":
		f.takeEvent(w, r)
	case watch && initial && !f.streaming:
		f.fail(w, apierrors.NewInvalid(schema.GroupKind{}, "", nil))
	case watch:
		f.watch(w, r, resource)
	default:
		f.reply(w, map[string]any{
			"apiVersion": "v1", "kind": "List", "metadata": f.listMeta(), "items": f.items(resource),
		}, resource)
	}
}

func (f *fakeAPI) listMeta() map[string]any {
	return map[string]any{"resourceVersion": strconv.Itoa(f.version)}
}

func (f *fakeAPI) items(resource string) []any {
	items := make([]any, 0)
	for _, o := range f.objects[resource] {
		items = append(items, o)
	}
	return items
}

// kinds of lists, by resource.
var listKinds = map[string][2]string{
	"services": {"v1", "ServiceList"}, "endpointslices": {"discovery.k8s.io/v1", "EndpointSliceList"}, "nodes": {"v1", "NodeList"},
}

func (f *fakeAPI) reply(w http.ResponseWriter, list map[string]any, resource string) {
	list["apiVersion"], list["kind"] = listKinds[resource][0], listKinds[resource][1]
	_ = json.NewEncoder(w).Encode(list)
}

func (f *fakeAPI) fail(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.APIVersion, status.Kind = "v1", "Status"
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

func (f *fakeAPI) done(r *http.Request) bool {
	select {
	case <-f.closing:
		return true
	default:
		return r.Context().Err() != nil
	}
}

// wait returns after a change, or when the client has gone.
func (f *fakeAPI) wait(r *http.Request) {
	stop := make(chan struct{})
	go func() {
		select {
		case <-stop:
		case <-r.Context().Done():
			f.moved.Broadcast()
		}
	}()
	f.moved.Wait()
	close(stop)
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, resource string) {
	query := r.URL.Query()
	from, _ := strconv.Atoi(query.Get("resourceVersion"))
	send := func(kind string, object any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": object})
	}
	if query.Get("sendInitialEvents") != "" {
		for _, o := range f.items(resource) {
			send("ADDED", o)
		}
		from = f.version
		send("BOOKMARK", map[string]any{
			"apiVersion": listKinds[resource][0], "kind": strings.TrimSuffix(listKinds[resource][1], "List"),
			"metadata": map[string]any{"resourceVersion": strconv.Itoa(f.version), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}},
		})
	} else if len(f.history) > 0 && f.history[0].resource == "" && from < f.history[0].version {
		f.fail(w, apierrors.NewResourceExpired("too old resource version"))
		return
	}
	w.(http.Flusher).Flush()
	for !f.done(r) && !f.forbidden[resource] {
		for _, c := range f.history {
			if c.resource == resource && c.version > from {
				send(c.kind, c.object)
				from = c.version
			}
		}
		w.(http.Flusher).Flush()
		f.wait(r)
	}
}

func (f *fakeAPI) takeEvent(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodPatch {
		f.patches = append(f.patches, string(body))
		for i := range f.events {
			if strings.HasSuffix(r.URL.Path, "/"+f.events[i].Name) {
				_ = json.Unmarshal(body, &f.events[i])
				_ = json.NewEncoder(w).Encode(f.events[i])
				return
			}
		}
		f.fail(w, apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, r.URL.Path))
		return
	}
	object, _, err := serializer.NewCodecFactory(scheme).UniversalDeserializer().Decode(body, nil, nil)
	event, ok := object.(*corev1.Event)
	if !ok {
		f.t.Errorf("not an event: %v, %v", object, err)
		return
	}
	if slices.ContainsFunc(f.events, func(e corev1.Event) bool { return e.Namespace == event.Namespace && e.Name == event.Name }) {
		f.fail(w, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, event.Name))
		return
	}
	event.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}
	f.events = append(f.events, *event)
	f.moved.Broadcast()
	_ = json.NewEncoder(w).Encode(event)
}
