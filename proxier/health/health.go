package health

import (
	"encoding/json"
	"net/http"
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
	queued   time.Time // oldest change not applied yet, zero if there is none
	synced   time.Time // last successful pass
	ready    bool      // there has been one
	stopping bool
	eligible bool
}

// New returns a healthy Proxy. It turns unhealthy when a change waits for longer
// than limit.
func New(limit time.Duration) *Proxy {
	p := &Proxy{limit: limit, now: time.Now, eligible: true}
	p.synced = p.now()
	return p
}

// Queued says that there is a change to apply.
func (p *Proxy) Queued() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queued.IsZero() {
		p.queued = p.now()
	}
}

// Synced says that everything queued has been applied.
func (p *Proxy) Synced() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued, p.synced, p.ready = time.Time{}, p.now(), true
}

// Stopping says that nothing new is served any more: not a fault, but no place
// to send traffic to either.
func (p *Proxy) Stopping() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
}

// Node tells the own Node object, nil if there is none to be seen: then nothing
// speaks against the node.
func (p *Proxy) Node(node *corev1.Node) {
	eligible := true
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

type status struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	Healthy      bool      `json:"healthy"`
	NodeEligible *bool     `json:"nodeEligible,omitempty"`
}

func (p *Proxy) status() (s status, eligible bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	s = status{LastUpdated: p.synced, CurrentTime: now}
	s.Healthy = p.queued.IsZero() || now.Sub(p.queued) <= p.limit
	if s.Healthy {
		s.LastUpdated = now // as kube-proxy does
	}
	return s, p.eligible && !p.stopping
}

func (p *Proxy) isReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready && !p.stopping
}

// Handler serves /healthz, which also asks whether the node wants traffic,
// /livez, which does not: a node on its way out is no reason to restart, and
// /readyz, which waits for the first complete state to be served.
func (p *Proxy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		s, eligible := p.status()
		s.NodeEligible = &eligible
		answer(w, s, s.Healthy && eligible)
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		s, _ := p.status()
		answer(w, s, s.Healthy)
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		s, _ := p.status()
		answer(w, s, s.Healthy && p.isReady())
	})
	return mux
}

func answer(w http.ResponseWriter, s status, ok bool) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(s)
}
