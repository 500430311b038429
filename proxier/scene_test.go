package proxier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
	"github.com/usher-proxy/usher/proxier/udp"
	"github.com/usher-proxy/usher/test/netns"
)

// memory is a source whose objects a test sets.
type memory struct {
	changed chan struct{}
	mu      sync.Mutex
	objects source.Objects
	events  []string
	// incomplete says that some of the objects are still missing.
	incomplete bool
}

func (m *memory) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (m *memory) Changed() <-chan struct{}      { return m.changed }

func (m *memory) Objects() (source.Objects, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects, !m.incomplete
}

func (m *memory) Event(about source.Ref, reason, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, fmt.Sprintf("%s %s: %s", about, reason, message))
}

func (m *memory) set(objects ...any) {
	var all source.Objects
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			all.Services = append(all.Services, o)
		case *discoveryv1.EndpointSlice:
			all.Slices = append(all.Slices, o)
		}
	}
	m.mu.Lock()
	m.objects = all
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// scene is a running Proxier in bind capture on loopback addresses.
type scene struct {
	*memory
	t       testing.TB
	proxier *Proxier
	records chan *observe.Record
	stop    func() // and wait
}

func newScene(t testing.TB, change ...func(*Config)) *scene {
	t.Helper()
	return newSceneWith(t, func(*Proxier) {}, change...)
}

// newSceneWith also changes the Proxier before it runs.
func newSceneWith(t testing.TB, prepare func(*Proxier), change ...func(*Config)) *scene {
	t.Helper()
	s := &scene{t: t, memory: &memory{changed: make(chan struct{}, 1)}, records: make(chan *observe.Record, 20000)}
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg := Config{
		Source: s, Log: log, Registry: prometheus.NewRegistry(),
		OnRecord: func(r *observe.Record) { s.records <- r },
		Capture:  "bind", AllowLoopbackEndpoints: true,
		Mark:          iptables.Mark{Value: 0x2000, Mask: 0x2000},
		Service:       annotation.Defaults(),
		MinSyncPeriod: time.Millisecond, SyncPeriod: 30 * time.Second,
		DrainTimeout: patience,
	}
	cfg.Service.UDP = udp.Limits{Sessions: 100, Idle: time.Minute, Stream: time.Minute}
	cfg.Service.Retry.Timeout, cfg.Service.Retry.Total, cfg.Service.Relay.HalfClose = time.Second, 5*time.Second, time.Minute
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p, err := New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	prepare(p)
	s.proxier = p
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(2 * patience):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(s.stop)
	return s
}

// record waits for the record of the next connection that ends.
func (s *scene) record() *observe.Record {
	s.t.Helper()
	select {
	case r := <-s.records:
		return r
	case <-time.After(patience):
		s.t.Fatal("no record")
		return nil
	}
}

// eventually tries until f succeeds.
func (s *scene) eventually(what string, f func() error) {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = f(); err == nil {
			return
		}
	}
	s.t.Fatalf("%s: %v", what, err)
}

// served waits until a Service address is connected to a backend, and forgets
// the records of that.
func (s *scene) served(addr string) {
	s.t.Helper()
	s.eventually(addr+" is served", func() error { _, err := get(addr); return err })
	s.record()
}

func (s *scene) refused(addr string) {
	s.t.Helper()
	s.eventually(addr+" is refused", func() error {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	for len(s.records) > 0 {
		<-s.records
	}
}

// get connects to addr and returns all that the backend says.
func get(addr string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// backend is a server that says its address to everyone, and closes.
type backend struct {
	addr  netip.AddrPort
	count atomic.Int64
}

func newBackend(t *testing.T) *backend {
	b := &backend{}
	b.addr = serveTCP(t, func(c net.Conn) {
		b.count.Add(1)
		io.WriteString(c, c.LocalAddr().String())
	})
	return b
}

// serveTCP serves each connection in a goroutine of its own, until the test
// ends.
func serveTCP(t testing.TB, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(2 * patience))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return addrPort(ln.Addr())
}

// testVIP is the n-th Service address of this process: tests of two working
// copies may run at once.
func testVIP(n int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:8080", 100+pid/250%100, pid%250, n)
}

// service is a Service with one unnamed TCP port on a loopback VIP.
func service(name, vip string) *corev1.Service {
	addr := netip.MustParseAddrPort(vip)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			ClusterIP: addr.Addr().String(),
			Ports:     []corev1.ServicePort{{Port: int32(addr.Port()), Protocol: corev1.ProtocolTCP}},
		},
	}
}

// slice is an EndpointSlice for the one address of a service; addresses that
// share a port share a slice.
func slice(name string, addrs ...netip.AddrPort) *discoveryv1.EndpointSlice {
	if len(addrs) == 0 {
		return &discoveryv1.EndpointSlice{}
	}
	port, tcp, none := int32(addrs[0].Port()), corev1.ProtocolTCP, ""
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: fmt.Sprintf("%s-%d", name, port),
			Labels: map[string]string{discoveryv1.LabelServiceName: name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &none, Port: &port, Protocol: &tcp}},
	}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.Addr().String()}})
	}
	return s
}

// with lists a Service and a slice for each of its endpoints.
func with(s *corev1.Service, endpoints ...netip.AddrPort) []any {
	objects := []any{s}
	for _, e := range endpoints {
		objects = append(objects, slice(s.Name, e))
	}
	return objects
}

// blackhole is an address that answers no SYN: its backlog is full.
func blackhole(t *testing.T) netip.AddrPort {
	t.Helper()
	s := loopbackSocket(t)
	fill(t, s)
	return s.addr
}

// fill has a socket listen, and one connection take all the room that it has: it
// answers no further SYN.
func fill(t *testing.T, s *streamSocket) {
	t.Helper()
	if err := listenFull(s); err != nil {
		t.Fatal(err)
	}
	c, err := dialTCP(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	netns.Eventually(t, "a full queue", func() error {
		// Of a listener Unacked is how many wait, and Sacked how many may
		// (tcp_get_info in net/ipv4/tcp.c of the kernel).
		info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Unacked <= info.Sacked {
			err = fmt.Errorf("%d wait, %d may", info.Unacked, info.Sacked)
		}
		return err
	})
}
