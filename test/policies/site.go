package policies

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

// vip is the address of the Service.
var vip = netip.MustParseAddrPort("127.1.0.1:8080")

// A site is usher with one Service, and the source of it. It writes down what usher tells.
type site struct {
	objects  source.Objects
	changed  chan struct{}
	registry *prometheus.Registry
	stop     func() error // and wait

	mu       sync.Mutex
	records  []*observe.Record
	ejection map[string]time.Time // the first one of each endpoint
}

// serve returns when the Service is served.
func serve(t testing.TB, settings annotation.Settings, endpoints []netip.AddrPort) (*site, error) {
	s := &site{objects: objects(endpoints), changed: make(chan struct{}, 1), registry: prometheus.NewRegistry(), ejection: map[string]time.Time{}}
	s.changed <- struct{}{}
	log := logrus.New()
	log.SetOutput(io.Discard)
	ctx, cancel := context.WithCancel(context.Background())
	p, err := proxier.New(ctx, proxier.Config{
		Source: s, Log: log, Registry: s.registry, OnRecord: s.record,
		Capture: "bind", AllowLoopbackEndpoints: true,
		Mark:    iptables.Mark{Value: 0x2000, Mask: 0x2000},
		Service: settings, MinSyncPeriod: time.Millisecond, SyncPeriod: 30 * time.Second,
		DrainTimeout: patience,
	})
	if err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { s.stop() })
	select {
	case <-p.Ready():
		return s, nil
	case <-time.After(patience):
		return s, fmt.Errorf("usher does not serve within %s", patience)
	}
}

// Run and the methods that follow make the site a source.Source whose objects never change.
func (s *site) Run(ctx context.Context) error   { <-ctx.Done(); return nil }
func (s *site) Changed() <-chan struct{}        { return s.changed }
func (s *site) Objects() (source.Objects, bool) { return s.objects, true }

// Event writes down when an endpoint was ejected: its address is in the message.
func (s *site) Event(_ source.Ref, reason, message string) {
	if reason != "EndpointEjected" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, after, _ := strings.Cut(message, "endpoint ")
	addr, _, _ := strings.Cut(after, " ")
	if _, known := s.ejection[addr]; !known {
		s.ejection[addr] = time.Now()
	}
}

func (s *site) record(r *observe.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, r)
}

// denied is how many connections got no further attempt as the retry budget was used up.
func (s *site) denied(t testing.TB) int {
	t.Helper()
	families, err := s.registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == "usher_retries_denied_total" {
			return int(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	t.Fatal("usher has no metric usher_retries_denied_total")
	return 0
}

// objects are the Service and its endpoints, which share a port.
func objects(endpoints []netip.AddrPort) source.Objects {
	meta := metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}
	port, tcp, unnamed := int32(endpoints[0].Port()), corev1.ProtocolTCP, ""
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &unnamed, Port: &port, Protocol: &tcp}},
	}
	for _, e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{e.Addr().String()}})
	}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: vip.Addr().String(),
		Ports:     []corev1.ServicePort{{Port: int32(vip.Port()), Protocol: corev1.ProtocolTCP}},
	}}
	return source.Objects{Services: []*corev1.Service{service}, Slices: []*discoveryv1.EndpointSlice{slice}}
}
