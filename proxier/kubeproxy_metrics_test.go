package proxier

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/source"
)

// scrape returns all series with their values.
func scrape(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	metricsOf(registry).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	all := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		series, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all[series] = value
	}
	return all
}

// series checks the values of some of them.
func series(t *testing.T, registry *prometheus.Registry, want map[string]float64) {
	t.Helper()
	got := scrape(t, registry)
	for name, value := range want {
		if v, ok := got["kubeproxy_"+name]; !ok || v != value {
			t.Errorf("kubeproxy_%s is %v, want %v", name, v, value)
		}
	}
}

// The names and labels of kube-proxy 1.36, by the kind of metric.
func TestNamesAndLabelsOfKubeProxy(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newKubeMetrics(registry, true, IPv4, IPv6)
	m.queued()
	m.began(source.Objects{Slices: []*discoveryv1.EndpointSlice{sliceAt("a", "1", IPv4, time.Now().Add(time.Hour))}})
	m.noLocalEndpoints(nil)
	m.rules(IPv4, "nat", 3, 2)
	m.ended(IPv4, time.Second, nil)
	m.answered("/healthz", 200)
	m.answered("/livez", 503)
	m.answered("/readyz", 503)

	got := scrape(t, registry)
	for _, want := range []string{
		`sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.001"}`,
		`sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="16.384"}`,
		`sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"}`,
		`sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}`,
		`network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.25"}`,
		`network_programming_duration_seconds_bucket{ip_family="IPv4",le="59"}`,
		`network_programming_duration_seconds_bucket{ip_family="IPv4",le="115"}`,
		`network_programming_duration_seconds_bucket{ip_family="IPv4",le="300"}`,
		`sync_proxy_rules_endpoint_changes_pending`,
		`sync_proxy_rules_endpoint_changes_total`,
		`sync_proxy_rules_service_changes_pending`,
		`sync_proxy_rules_service_changes_total`,
		`sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"}`,
		`sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"}`,
		`sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"}`,
		`sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"}`,
		`sync_proxy_rules_iptables_last{ip_family="IPv4",table="nat"}`,
		`proxy_healthz_total{code="200"}`,
		`proxy_livez_total{code="503"}`,
	} {
		if _, ok := got["kubeproxy_"+want]; !ok {
			t.Errorf("there is no kubeproxy_%s", want)
		}
	}
	series(t, registry, map[string]float64{
		`sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"}`: 3,
		`sync_proxy_rules_iptables_last{ip_family="IPv4",table="nat"}`:  2,
		// The clock of the control plane is ahead: that took no time at all.
		`network_programming_duration_seconds_sum{ip_family="IPv4"}`: 0,
		`proxy_healthz_total{code="200"}`:                            1,
		`proxy_livez_total{code="503"}`:                              1,
	})
	if n := len(programmingBuckets()); n != 80 || !slices.IsSorted(programmingBuckets()) {
		t.Errorf("%d buckets", n)
	}
}

func TestWithoutIptablesNothingIsSaidOfIt(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newKubeMetrics(registry, false, IPv4)
	m.queued()
	m.noLocalEndpoints(nil)
	m.ended(IPv4, time.Second, errors.New("it does not work"))
	for name := range scrape(t, registry) {
		if strings.Contains(name, "iptables") || strings.Contains(name, "IPv6") {
			t.Errorf("there is a %s", name)
		}
	}
}

func TestChangesArePendingUntilAllFamiliesAreApplied(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newKubeMetrics(registry, true, IPv4, IPv6)
	at := time.Now().Add(time.Millisecond)
	objects := source.Objects{
		Services: []*corev1.Service{serviceAt("a", "1"), serviceAt("b", "1")},
		Slices:   []*discoveryv1.EndpointSlice{sliceAt("a4", "1", IPv4, at), sliceAt("a6", "1", IPv6, at), sliceAt("b", "1", IPv4, at)},
	}
	changes := func(services, servicesPending, slices, slicesPending float64) {
		t.Helper()
		series(t, registry, map[string]float64{
			"sync_proxy_rules_service_changes_total": services, "sync_proxy_rules_service_changes_pending": servicesPending,
			"sync_proxy_rules_endpoint_changes_total": slices, "sync_proxy_rules_endpoint_changes_pending": slicesPending,
		})
	}
	m.began(objects)
	changes(2, 2, 3, 3)
	m.ended(IPv4, time.Second, nil)
	changes(2, 2, 3, 3)
	m.ended(IPv6, time.Second, errors.New("locked"))
	changes(2, 2, 3, 3)
	series(t, registry, map[string]float64{
		`sync_proxy_rules_duration_seconds_count{ip_family="IPv6"}`:          1,
		`sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"}`: 0,
		`sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"}`: 1,
		`network_programming_duration_seconds_count{ip_family="IPv4"}`:       2,
	})

	objects.Services = objects.Services[:1]
	m.began(objects)
	m.ended(IPv4, time.Second, nil)
	changes(3, 3, 3, 3)
	m.ended(IPv6, time.Second, nil)
	changes(3, 0, 3, 0)
	series(t, registry, map[string]float64{`network_programming_duration_seconds_count{ip_family="IPv6"}`: 1})
}

func TestTimestamps(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newKubeMetrics(registry, true, IPv4, IPv6)
	before := float64(time.Now().UnixNano()) / 1e9
	m.queued()
	m.ended(IPv6, 3*time.Second, nil)
	after := float64(time.Now().UnixNano()) / 1e9
	got := scrape(t, registry)
	for _, name := range []string{
		`last_queued_timestamp_seconds{ip_family="IPv4"}`, `last_queued_timestamp_seconds{ip_family="IPv6"}`,
		`last_timestamp_seconds{ip_family="IPv6"}`,
	} {
		if v := got["kubeproxy_sync_proxy_rules_"+name]; v < before || v > after {
			t.Errorf("%s is %f, not between %f and %f", name, v, before, after)
		}
	}
	series(t, registry, map[string]float64{`sync_proxy_rules_duration_seconds_sum{ip_family="IPv6"}`: 3})
}

func TestPortsWithoutLocalEndpoints(t *testing.T) {
	some := Eligible{Endpoints: []balancer.Endpoint{{Addr: netip.MustParseAddrPort("10.0.0.1:80")}}}
	port := func(family Family, cluster, local Eligible, policies ...Policy) *Port {
		p := &Port{Key: Key{Family: family}, Cluster: cluster, Local: local}
		for i, policy := range policies {
			p.Frontends = append(p.Frontends, Frontend{Port: uint16(i), Policy: policy})
		}
		return p
	}
	registry := prometheus.NewRegistry()
	m := newKubeMetrics(registry, false, IPv4, IPv6)
	ports := []*Port{
		port(IPv4, some, Eligible{}, Cluster, ExternalLocal, ExternalLocal),
		port(IPv4, some, Eligible{}, InternalLocal, ExternalLocal),
		port(IPv6, some, Eligible{}, InternalLocal, Cluster),
		port(IPv6, some, Eligible{}, Cluster),
		port(IPv6, some, some, InternalLocal),
		port(IPv6, Eligible{}, Eligible{}, InternalLocal, ExternalLocal),
	}
	check := func(internal4, external4, internal6, external6 float64) {
		t.Helper()
		want := map[string]float64{}
		for policy, values := range map[string][2]float64{"internal": {internal4, internal6}, "external": {external4, external6}} {
			for i, family := range []Family{IPv4, IPv6} {
				want[fmt.Sprintf("sync_proxy_rules_no_local_endpoints_total{ip_family=%q,traffic_policy=%q}", family, policy)] = values[i]
			}
		}
		series(t, registry, want)
	}
	m.noLocalEndpoints(ports)
	check(1, 2, 1, 0)
	m.noLocalEndpoints(ports[4:])
	check(0, 0, 0, 0)
}
