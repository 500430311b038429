package reasons

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
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
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/source"
	"github.com/usher-proxy/usher/proxier/udp"
	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

const (
	vip      = "127.100.0.1:8080"
	patience = 30 * time.Second
)

// lab is a running Proxier with one Service, on loopback addresses of a network namespace.
type lab struct {
	*testing.T
	changed  chan struct{}
	mu       sync.Mutex
	objects  source.Objects
	registry *prometheus.Registry
	records  chan *observe.Record
	cfg      proxier.Config
	stop     func()        // and wait
	over     chan struct{} // closed when the scenario is
	finish   func()        // closes it
}

func (l *lab) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (l *lab) Changed() <-chan struct{}      { return l.changed }
func (l *lab) Objects() (source.Objects, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.objects, true
}
func (l *lab) Event(source.Ref, string, string) {}

// watched hides that a test has a method Run as well.
type watched struct{ *lab }

func newLab(t *testing.T, change func(*proxier.Config)) *lab {
	l := &lab{T: t, changed: make(chan struct{}, 1), registry: prometheus.NewRegistry(), records: make(chan *observe.Record, 10000)}
	l.over = make(chan struct{})
	l.finish = sync.OnceFunc(func() { close(l.over) })
	log := logrus.New()
	log.SetOutput(io.Discard)
	l.cfg = proxier.Config{
		Source: watched{l}, Log: log, Registry: l.registry, NodeName: "node-1",
		OnRecord: func(r *observe.Record) { l.records <- r },
		Capture:  "bind", AllowLoopbackEndpoints: true, AdminSocket: t.TempDir() + "/usher.sock",
		Mark:          iptables.Mark{Value: 0x2000, Mask: 0x2000},
		Service:       annotation.Defaults(),
		MinSyncPeriod: time.Millisecond, SyncPeriod: 30 * time.Second, DrainTimeout: patience,
	}
	l.cfg.Service.Balancer = "first"
	l.cfg.Service.UDP = udp.Limits{Sessions: 100, Idle: time.Minute, Stream: time.Minute}
	l.cfg.Service.Retry.Timeout, l.cfg.Service.Retry.Total = patience, patience
	l.cfg.Service.Relay.HalfClose = time.Minute
	if change != nil {
		change(&l.cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p, err := proxier.New(ctx, l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		relay.FreePipes()
	})
	t.Cleanup(l.stop)
	return l
}

// end is one endpoint of the Service.
type end struct {
	netip.AddrPort
	node    string
	unready bool
	leaves  bool
}

func ready(all ...netip.AddrPort) (list []end) {
	for _, a := range all {
		list = append(list, end{AddrPort: a})
	}
	return list
}

// service is the Service on vip with annotations, given as name=value.
func service(protocol corev1.Protocol, wishes ...string) *corev1.Service {
	addr := netip.MustParseAddrPort(vip)
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{"usher-proxy.io/passive-health": "off"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: addr.Addr().String(),
			Ports:     []corev1.ServicePort{{Port: int32(addr.Port()), Protocol: protocol}},
		},
	}
	for _, w := range wishes {
		name, value, _ := strings.Cut(w, "=")
		s.Annotations["usher-proxy.io/"+name] = value
	}
	return s
}

func tcpService(wishes ...string) *corev1.Service { return service(corev1.ProtocolTCP, wishes...) }
func udpService(wishes ...string) *corev1.Service { return service(corev1.ProtocolUDP, wishes...) }

// serve has the Service and its endpoints take effect. usable is how many of them a client
// may get.
func (l *lab) serve(s *corev1.Service, usable int, endpoints ...end) {
	l.Helper()
	var objects source.Objects
	listeners := 0
	if s != nil {
		listeners, objects.Services = 1, []*corev1.Service{s}
	}
	for i, e := range endpoints {
		protocol, port, none, isReady := s.Spec.Ports[0].Protocol, int32(e.Port()), "", !e.unready && !e.leaves
		of := discoveryv1.Endpoint{Addresses: []string{e.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &isReady, Terminating: &e.leaves}}
		if e.node != "" {
			of.NodeName = &e.node
		}
		objects.Slices = append(objects.Slices, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("web-%d", i), Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &none, Port: &port, Protocol: &protocol}},
			Endpoints:   []discoveryv1.Endpoint{of},
		})
	}
	l.mu.Lock()
	l.objects = objects
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
	if s != nil { // of one that has gone the metrics stay as long as its connections
		l.becomes(float64(usable), "usher_endpoints", "usable")
	}
	l.becomes(float64(listeners), "usher_listeners", "")
}

// becomes waits until a metric with a label's value has a value.
func (l *lab) becomes(want float64, name, label string) {
	l.Helper()
	netns.Eventually(l, fmt.Sprintf("%s %s is %g", name, label, want), func() error {
		families, err := l.registry.Gather()
		got := 0.0
		for _, f := range families {
			for _, m := range f.GetMetric() {
				is := label == ""
				for _, pair := range m.GetLabel() {
					is = is || pair.GetValue() == label
				}
				if f.GetName() == name && is {
					got += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
		if err == nil && got != want {
			err = fmt.Errorf("it is %g", got)
		}
		return err
	})
}

// record is that of the next connection or session that ends.
func (l *lab) record() *observe.Record {
	l.Helper()
	select {
	case r := <-l.records:
		return r
	case <-time.After(patience):
		l.Fatal("no record")
		return nil
	}
}

// recordOf is that of a client, whoever else ends before.
func (l *lab) recordOf(c net.Conn) *observe.Record {
	l.Helper()
	for {
		if r := l.record(); r.Client.String() == c.LocalAddr().String() {
			return r
		}
	}
}

// client connects to the Service. It ends with the test, without TIME-WAIT.
func (l *lab) client() *net.TCPConn {
	l.Helper()
	c, err := net.DialTimeout("tcp", vip, patience)
	l.must(err)
	l.Cleanup(func() { reset(c) })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// talking is a client that has got an echo.
func (l *lab) talking() *net.TCPConn {
	l.Helper()
	c := l.client()
	l.talk(c)
	return c
}

func (l *lab) talk(c net.Conn) {
	l.Helper()
	_, err := io.WriteString(c, "ping")
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 4))
	}
	l.must(err)
}

// reset closes a connection by RST.
func reset(c net.Conn) {
	if c, ok := c.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	c.Close()
}

// endpoint serves each connection in a goroutine of its own, which also closes it.
func (l *lab) endpoint(handle func(*net.TCPConn)) netip.AddrPort {
	l.Helper()
	return l.endpointAt("127.0.0.1:0", handle)
}

func (l *lab) endpointAt(addr string, handle func(*net.TCPConn)) netip.AddrPort {
	l.Helper()
	ln, err := net.Listen("tcp", addr)
	l.must(err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				done := make(chan struct{})
				defer close(done)
				all.Go(func() {
					select {
					case <-l.over:
						c.SetDeadline(time.Unix(1, 0)) // usher's end may never arrive
					case <-done:
					}
				})
				handle(c.(*net.TCPConn))
			})
		}
	})
	l.Cleanup(func() { l.finish(); ln.Close(); all.Wait() })
	return netip.MustParseAddrPort(ln.Addr().String())
}

func echo(c *net.TCPConn) { io.Copy(c, c) }

// crash ends a connection by RST at once.
func crash(c *net.TCPConn) { c.SetLinger(0) }

// free is an address at which nobody listens.
func (l *lab) free(addr string) netip.AddrPort {
	l.Helper()
	ln, err := net.Listen("tcp", addr+":0")
	l.must(err)
	ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String())
}

// run runs a program in the namespace, and its opposite when the test ends.
func (l *lab) run(args string, undo ...string) {
	l.Helper()
	words := strings.Fields(args)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		l.Fatalf("%s: %v: %s", args, err, out)
	}
	for _, u := range undo {
		l.Cleanup(func() { l.run(u) })
	}
}

// rule adds a rule for packets that arrive.
func (l *lab) rule(rule string) {
	l.Helper()
	l.run("iptables -w -A INPUT "+rule, "iptables -w -D INPUT "+rule)
}

// cut has nothing arrive any more from a TCP port, or at it.
func (l *lab) cut(port uint16) {
	l.Helper()
	l.rule(fmt.Sprintf("-p tcp --sport %d -j DROP", port))
	l.rule(fmt.Sprintf("-p tcp --dport %d -j DROP", port))
}

func (l *lab) sysctl(name, value string) {
	l.Helper()
	path := "/proc/sys/" + name
	before, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return // an older kernel does without
	}
	l.must(errors.Join(err, os.WriteFile(path, []byte(value), 0)))
	l.Cleanup(func() { os.WriteFile(path, before, 0) })
}

func portOf(c net.Conn) uint16 { return uint16(c.LocalAddr().(*net.TCPAddr).Port) }
