package proxier

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-proxy/usher/proxier/source"
)

// kubeMetrics are the metrics of kube-proxy 1.36 that mean something here, with
// its names, labels and buckets (pkg/proxy/metrics in Kubernetes), so that
// dashboards and alerts go on working.
//
// The reconcile loop calls queued, began, noLocalEndpoints, rules and ended;
// answered is safe for concurrent use.
type kubeMetrics struct {
	families []Family
	changes  *changes
	pending  map[Family]pending
	slis     *slis

	duration        *prometheus.HistogramVec
	lastQueued      *prometheus.GaugeVec
	lastSynced      *prometheus.GaugeVec
	programming     *prometheus.HistogramVec
	servicesPending prometheus.Gauge
	slicesPending   prometheus.Gauge
	servicesTotal   prometheus.Counter
	slicesTotal     prometheus.Counter
	noLocal         *prometheus.GaugeVec
	restoreFailures *prometheus.CounterVec
	rulesTotal      *prometheus.GaugeVec
	rulesLast       *prometheus.GaugeVec
	reconcileTime   *prometheus.HistogramVec
	reconcileGone   *prometheus.CounterVec
	healthz, livez  *prometheus.CounterVec
}

// pending counts changes that are not applied yet.
type pending struct{ services, slices int }

// newKubeMetrics registers the metrics for the address families that are served.
// Those about iptables are only registered for that capture, as in kube-proxy.
func newKubeMetrics(registry prometheus.Registerer, withIptables bool, families ...Family) *kubeMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubeproxy_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubeproxy_" + name, Help: help, Buckets: buckets}, []string{"ip_family"})
	}
	services := gauge("sync_proxy_rules_service_changes_pending", "Changes of Services that are not applied yet.")
	endpoints := gauge("sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that are not applied yet.")
	servicesTotal := counter("sync_proxy_rules_service_changes_total", "Changes of Services seen.")
	endpointsTotal := counter("sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices seen.")
	m := &kubeMetrics{
		families: families, changes: newChanges(time.Now()), pending: map[Family]pending{}, slis: newSLIs(),

		duration: histogram("sync_proxy_rules_duration_seconds",
			"Time of one pass from the objects to the kernel.", prometheus.ExponentialBuckets(0.001, 2, 15)),
		lastQueued: gauge("sync_proxy_rules_last_queued_timestamp_seconds", "When a pass was last asked for.", "ip_family"),
		lastSynced: gauge("sync_proxy_rules_last_timestamp_seconds", "When a pass last succeeded.", "ip_family"),
		programming: histogram("network_programming_duration_seconds",
			"Time from a change of a Pod or Service to its effect on this node; the clock of the control plane's machine counts.", programmingBuckets()),
		servicesPending: services.WithLabelValues(), slicesPending: endpoints.WithLabelValues(),
		servicesTotal: servicesTotal.WithLabelValues(), slicesTotal: endpointsTotal.WithLabelValues(),
		noLocal: gauge("sync_proxy_rules_no_local_endpoints_total",
			"Service ports with a traffic policy Local and no endpoint on this node, but some elsewhere.", "traffic_policy", "ip_family"),
		restoreFailures: counter("sync_proxy_rules_iptables_restore_failures_total", "Passes in which iptables rules could not be written.", "ip_family"),
		rulesTotal:      gauge("sync_proxy_rules_iptables_total", "Rules of usher in iptables.", "table", "ip_family"),
		rulesLast:       gauge("sync_proxy_rules_iptables_last", "Rules that the last pass has written.", "table", "ip_family"),
		reconcileTime: histogram("conntrack_reconciler_sync_duration_seconds",
			"Time to delete stale UDP entries from the connection tracking table.", prometheus.ExponentialBuckets(0.001, 2, 15)),
		reconcileGone: counter("conntrack_reconciler_deleted_entries_total", "Stale UDP entries deleted from the connection tracking table.", "ip_family"),
		healthz:       counter("proxy_healthz_total", "Answers of /healthz, by HTTP code.", "code"),
		livez:         counter("proxy_livez_total", "Answers of /livez, by HTTP code.", "code"),
	}
	registry.MustRegister(m.duration, m.lastQueued, m.lastSynced, m.programming, services, endpoints, servicesTotal, endpointsTotal,
		m.noLocal, m.reconcileTime, m.reconcileGone, m.healthz, m.livez)
	if withIptables {
		registry.MustRegister(m.restoreFailures, m.rulesTotal, m.rulesLast)
	}
	for _, family := range families { // what an alert compares must be there before it goes wrong
		m.restoreFailures.WithLabelValues(family.String())
		m.reconcileGone.WithLabelValues(family.String())
	}
	return m
}

// programmingBuckets are those of the SLO for network programming latency
// (kubernetes/community, sig-scalability), up to five minutes.
func programmingBuckets() []float64 {
	return slices.Concat(
		prometheus.LinearBuckets(0.25, 0.25, 2),
		prometheus.LinearBuckets(1, 1, 59),
		prometheus.LinearBuckets(60, 5, 12),
		prometheus.LinearBuckets(120, 30, 7))
}

// reconciled tells that stale entries of the connection tracking table have been
// looked for.
func (m *kubeMetrics) reconciled(family Family, took time.Duration, deleted int) {
	m.reconcileTime.WithLabelValues(family.String()).Observe(took.Seconds())
	m.reconcileGone.WithLabelValues(family.String()).Add(float64(deleted))
}

// queued tells that there is something to apply.
func (m *kubeMetrics) queued() {
	for _, family := range m.families {
		m.lastQueued.WithLabelValues(family.String()).SetToCurrentTime()
	}
}

// began tells the objects that a pass applies.
func (m *kubeMetrics) began(objects source.Objects) {
	services, endpoints := m.changes.see(objects)
	m.servicesTotal.Add(float64(services))
	m.slicesTotal.Add(float64(endpoints))
	for _, family := range m.families {
		p := m.pending[family]
		m.pending[family] = pending{p.services + services, p.slices + endpoints}
	}
	m.setPending()
}

// ended tells that the pass has applied the objects in a family, or could not.
// took is how long the pass has worked on it.
func (m *kubeMetrics) ended(family Family, took time.Duration, err error) {
	label := family.String()
	m.duration.WithLabelValues(label).Observe(took.Seconds())
	if err != nil {
		m.restoreFailures.WithLabelValues(label).Inc()
		return
	}
	now := time.Now()
	m.lastSynced.WithLabelValues(label).Set(float64(now.UnixNano()) / 1e9)
	for _, at := range m.changes.applied(family) {
		m.programming.WithLabelValues(label).Observe(max(0, now.Sub(at).Seconds())) // clocks differ
	}
	delete(m.pending, family)
	m.setPending()
}

// setPending shows what the family that is behind most has to do.
func (m *kubeMetrics) setPending() {
	var most pending
	for _, p := range m.pending {
		most = pending{max(most.services, p.services), max(most.slices, p.slices)}
	}
	m.servicesPending.Set(float64(most.services))
	m.slicesPending.Set(float64(most.slices))
}

// noLocalEndpoints counts the ports whose policy keeps clients from endpoints
// that there are on other nodes.
func (m *kubeMetrics) noLocalEndpoints(ports []*Port) {
	type where struct {
		policy Policy
		family Family
	}
	counts := map[where]int{}
	for _, p := range ports {
		if len(p.Local.Endpoints) > 0 || len(p.Cluster.Endpoints) == 0 {
			continue
		}
		for _, policy := range []Policy{InternalLocal, ExternalLocal} {
			if slices.ContainsFunc(p.Frontends, func(f Frontend) bool { return f.Policy == policy }) {
				counts[where{policy, p.Family}]++
			}
		}
	}
	for _, family := range m.families {
		m.noLocal.WithLabelValues("internal", family.String()).Set(float64(counts[where{InternalLocal, family}]))
		m.noLocal.WithLabelValues("external", family.String()).Set(float64(counts[where{ExternalLocal, family}]))
	}
}

// rules tells how many rules of ours a table (filter, nat or mangle) holds now,
// and how many of them the last successful pass has written.
func (m *kubeMetrics) rules(family Family, table string, total, written int) {
	m.rulesTotal.WithLabelValues(table, family.String()).Set(float64(total))
	m.rulesLast.WithLabelValues(table, family.String()).Set(float64(written))
}

// answered counts an answer of health.Proxy.
func (m *kubeMetrics) answered(path string, code int) {
	switch path {
	case "/healthz":
		m.healthz.WithLabelValues(strconv.Itoa(code)).Inc()
	case "/livez":
		m.livez.WithLabelValues(strconv.Itoa(code)).Inc()
	}
	m.slis.observe("proxy", path[1:], code == http.StatusOK)
}

// slis are what /metrics/slis shows: how each health check last ended, as all
// components of Kubernetes tell it (KEP-3466). They have a registry of their own,
// so that they can be scraped more often than the rest.
type slis struct {
	registry *prometheus.Registry
	last     *prometheus.GaugeVec
	total    *prometheus.CounterVec
}

func newSLIs() *slis {
	s := &slis{
		registry: prometheus.NewRegistry(),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubernetes_healthcheck", Help: "How a health check last ended: 1 is healthy.",
		}, []string{"name", "type"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubernetes_healthchecks_total", Help: "Health checks, by how they ended.",
		}, []string{"name", "type", "status"}),
	}
	s.registry.MustRegister(s.last, s.total)
	return s
}

// observe tells how the check of a name ended that was asked for by a type of
// question: healthz, livez or readyz.
func (s *slis) observe(name, kind string, ok bool) {
	value, status := 0.0, "error"
	if ok {
		value, status = 1, "success"
	}
	s.last.WithLabelValues(name, kind).Set(value)
	s.total.WithLabelValues(name, kind, status).Inc()
}
