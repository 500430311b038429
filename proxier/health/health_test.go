package health

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	v4 = corev1.IPv4Protocol
	v6 = corev1.IPv6Protocol
)

// clock is a time that a test sets.
type clock struct{ time.Time }

func (c *clock) step(d time.Duration) { c.Time = c.Add(d) }

// newProxy returns a Proxy with a limit of one minute, on a clock.
func newProxy(families ...corev1.IPFamily) (*Proxy, *clock) {
	c := &clock{time.Unix(1000, 0).UTC()}
	p := New(time.Minute, families...)
	p.now = func() time.Time { return c.Time }
	return p, c
}

// ask returns the code and the answer of a path.
func ask(t *testing.T, p *Proxy, path string) (int, status) {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler(nil).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	for header, value := range map[string]string{"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(header); got != value {
			t.Errorf("%s: %s is %q", path, header, got)
		}
	}
	var s status
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	return w.Code, s
}

func want(t *testing.T, p *Proxy, codes map[string]int) {
	t.Helper()
	for path, code := range codes {
		if got, s := ask(t, p, path); got != code {
			t.Errorf("%s answers %d %+v, want %d", path, got, s, code)
		}
	}
}

var (
	all200 = map[string]int{"/healthz": 200, "/livez": 200, "/readyz": 200}
	all503 = map[string]int{"/healthz": 503, "/livez": 503, "/readyz": 503}
)

func TestHealthFollowsTheOldestQueuedChange(t *testing.T) {
	p, clock := newProxy(v4, v6)
	p.Queued()
	p.Synced(v4, v6)
	want(t, p, all200)

	clock.step(24 * time.Hour) // nothing queued: healthy however long ago
	want(t, p, all200)
	p.Queued()
	clock.step(59 * time.Second)
	p.Queued()
	want(t, p, all200)
	clock.step(time.Second) // the first of the two is late
	want(t, p, all503)
	if p.Healthy() {
		t.Error("healthy")
	}
	p.Synced(v4, v6)
	want(t, p, all200)
	if !p.Healthy() {
		t.Error("not healthy")
	}
	p.Stopping()
	want(t, p, map[string]int{"/healthz": 503, "/livez": 200, "/readyz": 503})
}

func TestStartingUpIsHealthyButNotReady(t *testing.T) {
	p, clock := newProxy(v4, v6)
	starting := map[string]int{"/healthz": 200, "/livez": 200, "/readyz": 503}
	want(t, p, starting)
	p.Queued()
	clock.step(time.Hour)
	want(t, p, starting)
	p.Synced(v4)
	want(t, p, starting)
	if _, s := ask(t, p, "/livez"); len(s.Status) != 1 || !s.Status[v4].Healthy {
		t.Errorf("status is %v", s.Status)
	}
	p.Synced(v6)
	want(t, p, all200)
}

func TestUnhealthyUntilBothFamiliesAreServed(t *testing.T) {
	p, clock := newProxy(v4, v6)
	p.Synced(v4, v6)
	p.Queued()
	clock.step(30 * time.Second)
	p.Synced(v4)
	clock.step(30 * time.Second)
	want(t, p, all503)
	_, s := ask(t, p, "/livez")
	if s.Healthy || !s.Status[v4].Healthy || s.Status[v6].Healthy {
		t.Errorf("with IPv6 late: %+v", s)
	}
	if late := clock.Add(-30 * time.Second); !s.LastUpdated.Equal(late) || !s.Status[v4].LastUpdated.Equal(late) {
		t.Errorf("last updated %s, IPv4 %s, want %s, when IPv4 was", s.LastUpdated, s.Status[v4].LastUpdated, late)
	}

	p.Synced(v6)
	want(t, p, all200)
	p.Queued()
	clock.step(time.Minute)
	p.Synced(v6)
	want(t, p, all503) // with IPv4 late

	p.Queued()
	clock.step(time.Minute) // now both are
	p.Synced(v4)
	want(t, p, all503)
	p.Synced() // nobody
	want(t, p, all503)
	p.Synced(v6)
	want(t, p, all200)
}

func TestNodeWithoutIPv6(t *testing.T) {
	p, clock := newProxy(v4)
	p.Queued()
	p.Synced(v4, v6)
	clock.step(time.Hour)
	want(t, p, all200)
	if _, s := ask(t, p, "/healthz"); len(s.Status) != 1 {
		t.Errorf("status is %v", s.Status)
	}
}

// The fields are those of kube-proxy's ProxyHealth, in its order.
func TestJSON(t *testing.T) {
	p, clock := newProxy(v4, v6)
	p.Synced(v4, v6)
	clock.step(time.Second)
	const now, before = `"1970-01-01T00:16:41Z"`, `"1970-01-01T00:16:40Z"`
	const families = `"status":{"IPv4":{"lastUpdated":` + before + `,"healthy":true},"IPv6":{"lastUpdated":` + before + `,"healthy":true}}}`
	for path, want := range map[string]string{
		"/healthz": `{"lastUpdated":` + now + `,"currentTime":` + now + `,"nodeEligible":true,"healthy":true,` + families,
		"/livez":   `{"lastUpdated":` + now + `,"currentTime":` + now + `,"healthy":true,` + families,
	} {
		w := httptest.NewRecorder()
		p.Handler(nil).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if got := w.Body.String(); got != want {
			t.Errorf("%s answers\n%s, want\n%s", path, got, want)
		}
	}
}

func TestServingIsNotPromisedBeforeThereIsAnything(t *testing.T) {
	p := New(time.Minute, corev1.IPv4Protocol, corev1.IPv6Protocol)
	for _, step := range []struct {
		do   func()
		want bool
	}{
		{func() {}, false},
		{func() { p.Synced(corev1.IPv4Protocol) }, false},
		{func() { p.Synced(corev1.IPv6Protocol) }, true},
		{p.Stopping, false},
	} {
		step.do()
		if got := p.Serving(); got != step.want || !p.Healthy() {
			t.Errorf("serving %v, want %v; healthy %v, want true", got, step.want, p.Healthy())
		}
	}
}

func TestNodeOnItsWayOut(t *testing.T) {
	p, clock := newProxy(v4)
	p.Synced(v4)
	clock.step(time.Second)
	tainted := func(keys ...string) *corev1.Node {
		node := &corev1.Node{}
		for _, key := range keys {
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key})
		}
		return node
	}
	deleted := &corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}}
	cordoned := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}}
	for _, c := range []struct {
		what     string
		node     *corev1.Node
		expected bool
		eligible bool
	}{
		{"about to be removed by the autoscaler", tainted("other", "ToBeDeletedByClusterAutoscaler"), true, false},
		{"tainted otherwise", tainted("node.kubernetes.io/not-ready"), true, true},
		{"being deleted", deleted, true, false},
		{"cordoned", cordoned, true, true},
		{"missing from the API", nil, true, false},
		{"not in the files", nil, false, true},
		{"in the files, being deleted", deleted, false, false},
	} {
		p.Node(c.node, c.expected)
		code, s := ask(t, p, "/healthz")
		if (code == 200) != c.eligible || *s.NodeEligible != c.eligible || !s.Healthy {
			t.Errorf("%s: healthz answers %d %+v", c.what, code, s)
		}
		if recent := s.LastUpdated.Equal(clock.Time); recent != c.eligible {
			t.Errorf("%s: last updated %s: only an answer of 200 says now", c.what, s.LastUpdated)
		}
		if code, s := ask(t, p, "/livez"); code != 200 || s.NodeEligible != nil || !s.LastUpdated.Equal(clock.Time) {
			t.Errorf("%s: livez answers %d %+v", c.what, code, s)
		}
	}
}

func TestAnswersAreCounted(t *testing.T) {
	p, clock := newProxy(v4)
	p.Synced(v4)
	type told struct {
		path string
		code int
	}
	var got []told
	h := p.Handler(func(path string, code int) { got = append(got, told{path, code}) })
	get := func(path string) { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)) }
	get("/healthz")
	p.Queued()
	clock.step(time.Hour)
	get("/livez")
	get("/elsewhere")
	if want := []told{{"/healthz", 200}, {"/livez", 503}}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}
