package health

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// toBeDeleted is the taint of a node that the cluster autoscaler is about to
// remove: load balancers should stop choosing it (KEP-3836).
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Proxy is whether changes reach the kernel in time, and whether the node
// wants traffic. It is safe for concurrent use.
type Proxy struct {
	limit time.Duration
	now   func() time.Time

	mu       sync.Mutex
	families []*family
	stopping bool
	eligible bool
}

// family is how far the changes of one address family have got.
type family struct {
	name   corev1.IPFamily
	queued time.Time // oldest change not applied yet, zero if there is none
	synced time.Time // last successful pass, zero if there has been none
}

// late says whether a change waits for too long.
func (f *family) late(now time.Time, limit time.Duration) bool {
	return !f.queued.IsZero() && now.Sub(f.queued) >= limit
}

// New returns a healthy Proxy that serves the given address families. It turns
// unhealthy when a change waits for limit (kube-proxy: 2*syncPeriod) in one of
// them, and healthy again when none is late any more. Until Node is called
// nothing speaks against the node.
func New(limit time.Duration, families ...corev1.IPFamily) *Proxy {
	p := &Proxy{limit: limit, now: time.Now, eligible: true}
	for _, name := range families {
		p.families = append(p.families, &family{name: name})
	}
	return p
}

// Queued says that there is a change to apply, in every family.
func (p *Proxy) Queued() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, f := range p.families {
		if f.queued.IsZero() {
			f.queued = now
		}
	}
}

// Synced says that everything queued has been applied in these families. Those
// that New was not given are ignored.
func (p *Proxy) Synced(families ...corev1.IPFamily) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, f := range p.families {
		if slices.Contains(families, f.name) {
			f.queued, f.synced = time.Time{}, now
		}
	}
}

// Stopping says that nothing new is served any more: not a fault, but no place
// to send traffic to either.
func (p *Proxy) Stopping() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
}

// Node tells the own Node object, nil if it is not known. A node that is being
// deleted, or that the cluster autoscaler is about to, wants no traffic; one that
// is cordoned does. An unknown one does not either if it is expected, as in
// kube-proxy. expected is false where the source of objects need not have the
// Node, such as files: then nothing speaks against it.
func (p *Proxy) Node(node *corev1.Node, expected bool) {
	eligible := !expected
	if node != nil {
		eligible = node.DeletionTimestamp == nil
		for _, taint := range node.Spec.Taints {
			eligible = eligible && taint.Key != toBeDeleted
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eligible = eligible
}

// Healthy says whether changes reach the kernel in time, in all families.
func (p *Proxy) Healthy() bool {
	s, _, _ := p.status()
	return s.Healthy
}

// Serving says whether a complete state is served in all families, and changes
// reach it in time. Unlike Healthy it is false until there is one: a load
// balancer must not be promised what was never there.
func (p *Proxy) Serving() bool {
	s, _, ready := p.status()
	return s.Healthy && ready
}

// status is the JSON of kube-proxy's ProxyHealth.
type status struct {
	LastUpdated  time.Time                        `json:"lastUpdated"`
	CurrentTime  time.Time                        `json:"currentTime"`
	NodeEligible *bool                            `json:"nodeEligible,omitempty"`
	Healthy      bool                             `json:"healthy"`
	Status       map[corev1.IPFamily]familyStatus `json:"status,omitempty"`
}

type familyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// status also tells whether the node wants traffic, and whether every family has
// been served once. A family has no status before that and counts as healthy, as
// in kube-proxy: starting up is no fault.
func (p *Proxy) status() (s status, eligible, ready bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = status{CurrentTime: p.now(), Healthy: true, Status: map[corev1.IPFamily]familyStatus{}}
	ready = !p.stopping
	for _, f := range p.families {
		if f.synced.IsZero() {
			ready = false
			continue
		}
		late := f.late(s.CurrentTime, p.limit)
		s.Status[f.name] = familyStatus{f.synced, !late}
		s.Healthy = s.Healthy && !late
		if f.synced.After(s.LastUpdated) {
			s.LastUpdated = f.synced
		}
	}
	return s, p.eligible && !p.stopping, ready
}

// Handler serves /healthz, which also asks whether the node wants traffic,
// /livez, which does not: a node on its way out is no reason to restart, and
// /readyz, which waits for the first complete state to be served. How old that state is
// makes no difference to any of them: without its API server a node serves what it knows
// as well as all others do, and to take it out would help nobody. answered, if
// not nil, is told the code of every answer; it may be called concurrently.
func (p *Proxy) Handler(answered func(path string, code int)) http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, ask func() (s status, ok bool)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			s, ok := ask()
			code := http.StatusServiceUnavailable
			if ok {
				code = http.StatusOK
				// Older kube-proxies told when the loop last ran, changes or not. So
				// probes expect something recent of a healthy one.
				s.LastUpdated = s.CurrentTime
			}
			if answered != nil {
				answered(path, code)
			}
			body, _ := json.Marshal(s) // it is made of nothing that could fail
			answer(w, code, body)
		})
	}
	handle("/healthz", func() (status, bool) {
		s, eligible, _ := p.status()
		s.NodeEligible = &eligible
		return s, s.Healthy && eligible
	})
	handle("/livez", func() (status, bool) {
		s, _, _ := p.status()
		return s, s.Healthy
	})
	handle("/readyz", func() (status, bool) {
		s, _, ready := p.status()
		return s, s.Healthy && ready
	})
	return mux
}

func answer(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Server", "usher") // kube-proxy answers the same at the same address
	w.WriteHeader(code)
	w.Write(body)
}
