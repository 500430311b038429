package health

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ask returns the code and the answer of a path.
func ask(t *testing.T, p *Proxy, path string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	for _, key := range []string{"lastUpdated", "currentTime", "healthy"} {
		if body[key] == nil {
			t.Errorf("%s: %s has no %s", path, w.Body, key)
		}
	}
	return w.Code, body
}

func want(t *testing.T, p *Proxy, codes map[string]int) {
	t.Helper()
	for path, code := range codes {
		if got, body := ask(t, p, path); got != code {
			t.Errorf("%s answers %d %v, want %d", path, got, body, code)
		}
	}
}

func TestHealthFollowsTheOldestQueuedChange(t *testing.T) {
	now := time.Unix(1000, 0)
	p := New(time.Minute)
	p.now = func() time.Time { return now }
	want(t, p, map[string]int{"/healthz": 200, "/livez": 200, "/readyz": 503})
	p.Queued()
	p.Synced()
	want(t, p, map[string]int{"/healthz": 200, "/livez": 200, "/readyz": 200})

	now = now.Add(24 * time.Hour) // nothing queued: healthy however long ago
	want(t, p, map[string]int{"/healthz": 200, "/livez": 200})
	p.Queued()
	now = now.Add(59 * time.Second)
	p.Queued()
	want(t, p, map[string]int{"/healthz": 200, "/livez": 200})
	now = now.Add(2 * time.Second) // the first of the two is late
	want(t, p, map[string]int{"/healthz": 503, "/livez": 503, "/readyz": 503})
	p.Synced()
	want(t, p, map[string]int{"/healthz": 200, "/livez": 200, "/readyz": 200})
	p.Stopping()
	want(t, p, map[string]int{"/healthz": 503, "/livez": 200, "/readyz": 503})
}

func TestNodeOnItsWayOut(t *testing.T) {
	p := New(time.Minute)
	leaving := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}}}
	p.Node(leaving)
	want(t, p, map[string]int{"/healthz": 503, "/livez": 200})
	if _, body := ask(t, p, "/healthz"); body["healthy"] != true || body["nodeEligible"] != false {
		t.Errorf("healthz says %v", body)
	}
	p.Node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}})
	want(t, p, map[string]int{"/healthz": 503, "/livez": 200})
	p.Node(&corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}})
	want(t, p, map[string]int{"/healthz": 200, "/livez": 200})
}
