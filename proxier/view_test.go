package proxier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/udp"
)

// shown is a scene with an admin socket.
type shown struct {
	*scene
	socket string
}

func newShown(t testing.TB, change ...func(*Config)) *shown {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "usher.sock")
	s := newScene(t, append(change, func(c *Config) { c.AdminSocket = socket })...)
	s.eventually("the socket is there", func() error {
		return admin.Get(t.Context(), socket, "/v1/status", nil, &admin.Status{})
	})
	return &shown{s, socket}
}

// deadBefore is an address that nobody listens on, and that comes before another.
func deadBefore(t *testing.T, other netip.AddrPort) netip.AddrPort {
	t.Helper()
	for {
		if dead := freeAddr(t); dead.Compare(other) < 0 {
			return dead
		}
	}
}

// set waits until there has been a pass with the objects.
func (s *shown) set(objects ...any) {
	s.t.Helper()
	s.scene.set(objects...)
	want, _ := s.Objects()
	s.eventually("a pass", func() error {
		if seen := s.proxier.seen.Load(); seen == nil || !isSameList(seen.objects.Services, want.Services) {
			return errors.New("there was none")
		}
		return nil
	})
}

// query is from pairs of names and values.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return q
}

// view is what is shown at a path.
func view[T any](s *shown, path string, pairs ...string) (answer T) {
	s.t.Helper()
	if err := admin.Get(s.t.Context(), s.socket, path, query(pairs...), &answer); err != nil {
		s.t.Fatalf("%s %v: %v", path, pairs, err)
	}
	return answer
}

// wantFault wants an answer that is none.
func (s *shown) wantFault(status int, path string, pairs ...string) {
	s.t.Helper()
	var answer *admin.Error
	if err := admin.Get(s.t.Context(), s.socket, path, query(pairs...), new(any)); !errors.As(err, &answer) || answer.Status != status {
		s.t.Errorf("%s %v: %v, want %d", path, pairs, err, status)
	}
}

// open connects to an address and stays.
func (s *shown) open(addr string) net.Conn {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * patience))
	return c
}

// pod says that the endpoints of a slice are pods.
func pod(name string, s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	for i := range s.Endpoints {
		s.Endpoints[i].TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: name}
	}
	return s
}

func TestNothingIsShownBeforeThereIsSomething(t *testing.T) {
	s := newShown(t, func(c *Config) { c.Source.(*scene).incomplete = true })
	for _, path := range []string{"attention", "services", "traffic", "map", "connections", "sessions", "listeners"} {
		s.wantFault(http.StatusServiceUnavailable, "/v1/"+path)
	}
	if err := s.flows(nil, func([]byte) error { return nil }); err != nil {
		t.Errorf("flows: %v", err)
	}
}

func TestServicesAreShown(t *testing.T) {
	s := newShown(t, onNode1)
	a, b := lasting(t), lasting(t)
	web := service("web", vip)
	web.Labels = map[string]string{"app": "web"}
	web.CreationTimestamp.Time = time.Unix(1700000000, 0).UTC()
	web.Spec.Type = corev1.ServiceTypeNodePort
	web.Spec.Ports[0].NodePort = int32(freeAddr(t).Port())
	away := service("away", testVIP(4))
	objects := append([]any{web, away}, pod("a", slice("web", a)), pod("b", slice("web", b)))
	notReady := slice("web", freeAddr(t))
	notReady.Endpoints[0].Conditions = conditions(false, false, false)
	s.set(append(objects, notReady)...)
	s.eventually("both are served", func() error {
		if got := s.proxier.Services("", ""); len(got) != 2 || len(got[1].Ports) != 1 {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	c := s.open(vip)
	defer c.Close()
	s.eventually("it is active", func() error {
		if got := view[[]admin.Service](s, "/v1/services"); got[1].Ports[0].Traffic.Active != 1 {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	got := view[[]admin.Service](s, "/v1/services")
	for i := range got {
		got[i].Ports[0].Traffic = admin.Traffic{}
	}
	want := []admin.Service{
		{Namespace: "default", Name: "away", Type: "ClusterIP", Addresses: []string{netip.MustParseAddrPort(testVIP(4)).Addr().String()},
			Ports: []admin.Port{{Port: 8080, Protocol: "tcp", Balancer: "random", Families: []admin.Family{{Family: "IPv4", Answer: "refuse"}}}}},
		{Namespace: "default", Name: "web", Labels: web.Labels, Type: "NodePort", Created: web.CreationTimestamp.Time,
			Addresses: []string{netip.MustParseAddrPort(vip).Addr().String()},
			Ports: []admin.Port{{Port: 8080, NodePort: uint16(web.Spec.Ports[0].NodePort), Protocol: "tcp", Balancer: "random",
				Families: []admin.Family{{Family: "IPv4", Answer: "serve", Endpoints: 3, Usable: 2}}}}},
	}
	want[0].Ports[0].Balancer, want[1].Ports[0].Balancer = got[0].Ports[0].Balancer, got[1].Ports[0].Balancer
	if !reflect.DeepEqual(got, want) || got[0].Ports[0].Balancer == "" {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := view[[]admin.Service](s, "/v1/services", "service", "default/web"); len(got) != 1 || got[0].Name != "web" {
		t.Errorf("one: %+v", got)
	}
	if got := view[[]admin.Service](s, "/v1/services", "namespace", "other"); len(got) != 0 {
		t.Errorf("of another namespace: %+v", got)
	}
	s.wantFault(http.StatusNotFound, "/v1/services", "service", "other")
	s.wantFault(http.StatusBadRequest, "/v1/services", "pod", "other")
	s.wantFault(http.StatusBadRequest, "/v1/services", "namespace", "a", "service", "b/web")
	if got := s.proxier.Status(); got.Services != 2 || got.Ports != 2 {
		t.Errorf("the status is %+v", got)
	}
}

func TestIllEndpointsOfServicesAreShown(t *testing.T) {
	s := newShown(t)
	alive, dead := newBackend(t).addr, freeAddr(t)
	s.set(with(service("web", vip), alive, dead)...)
	s.eventually("one is ill", func() error {
		if _, err := get(vip); err != nil {
			return err
		}
		got := s.proxier.Services("", "")
		if want := (admin.Family{Family: "IPv4", Answer: "serve", Endpoints: 2, Usable: 1, Ill: 1}); got[0].Ports[0].Families[0] != want {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
}

// total are the numbers of the one port that was used.
func (s *shown) total() (n admin.PortTraffic) {
	s.t.Helper()
	list := view[admin.TrafficNow](s, "/v1/traffic").Ports
	if len(list) > 1 {
		s.t.Fatalf("there are %d ports: %+v", len(list), list)
	}
	if len(list) == 1 {
		n = list[0]
	}
	return n
}

func TestTrafficIsShownWhileItMoves(t *testing.T) {
	s := newShown(t)
	echo := serveTCP(t, echoes)
	dead := freeAddr(t)
	unused := service("unused", testVIP(5))
	s.set(append(with(service("web", vip), echo, dead), unused)...)
	s.served2(vip)
	before := s.total()
	c := s.open(vip)
	text := make([]byte, 1000)
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, text); err != nil {
		t.Fatal(err)
	}
	want := func(n admin.PortTraffic) error {
		if n.Service != "web" || n.Protocol != "tcp" || n.BytesIn != before.BytesIn+1000 || n.BytesOut != before.BytesOut+1000 || n.Opened != before.Opened+1 {
			return fmt.Errorf("got %+v, before %+v", n, before)
		}
		return nil
	}
	s.eventually("what a live connection has moved", func() error { return want(s.total()) })
	if n := s.total(); n.Active != 1 || n.Closed != before.Closed {
		t.Errorf("while it lives: %+v", n)
	}
	c.Close()
	s.eventually("its end", func() error {
		n := s.total()
		if err := want(n); err != nil {
			t.Fatal(err) // neither twice nor lost, at any time
		}
		if n.Active != 0 || n.Closed != n.Opened {
			return fmt.Errorf("got %+v", n)
		}
		return nil
	})
	s.eventually("retries", func() error {
		get2(vip)
		n := s.total()
		if n.Failed == 0 || n.Retries == 0 || n.Retried == 0 || n.Recent == nil || n.Recent.Connections == 0 || n.Recent.ConnectP99 < n.Recent.ConnectP50 {
			return fmt.Errorf("got %+v", n)
		}
		return nil
	})
}

// served2 is served for a backend that says nothing by itself.
func (s *shown) served2(addr string) {
	s.t.Helper()
	s.eventually(addr+" is served", func() error { return get2(addr) })
	s.record()
}

func get2(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	return talk(c)
}

// Bytes never shrink and are never counted twice, however connections come and go.
func TestTrafficOnlyGrows(t *testing.T) {
	s := newShown(t)
	s.set(with(service("web", vip), serveTCP(t, echoes))...)
	s.served2(vip)
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var sent counter
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				sent.add(1)
				if err := get2(vip); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var last admin.PortTraffic
	for range 1500 {
		n := s.proxier.Traffic().Ports[0]
		if n.BytesIn < last.BytesIn || n.BytesOut < last.BytesOut || n.Opened < last.Opened || n.Closed < last.Closed {
			t.Fatalf("it has shrunk: %+v, before %+v", n, last)
		}
		if most := sent.get() + 1; n.BytesIn > most || n.BytesOut > most {
			t.Fatalf("%d bytes were sent at most, and %+v are told", most, n)
		}
		last = n
	}
	stop()
	clients.Wait()
	s.eventually("all has ended", func() error {
		if n := s.total(); n.BytesIn != sent.get()+1 || n.Active != 0 {
			return fmt.Errorf("%d were sent, got %+v", sent.get()+1, n)
		}
		return nil
	})
}

type counter struct {
	mu sync.Mutex
	n  uint64
}

func (c *counter) add(n uint64) { c.mu.Lock(); c.n += n; c.mu.Unlock() }
func (c *counter) get() uint64  { c.mu.Lock(); defer c.mu.Unlock(); return c.n }

func TestConnectionsAreShown(t *testing.T) {
	s := newShown(t, onNode1)
	echo := serveTCP(t, echoes)
	web := asking("max-connections=1", "on-limit=wait:30s")
	hole := blackhole(t)
	s.set(web, pod("web-1", slice("web", echo)), service("slow", testVIP(2)), slice("slow", hole))
	s.served2(vip)

	first := s.open(vip)
	if err := talk(first); err != nil {
		t.Fatal(err)
	}
	second := s.open(vip)
	third := s.open(testVIP(2))
	var list admin.Connections
	s.eventually("three connections", func() error {
		if list = view[admin.Connections](s, "/v1/connections"); len(list.Connections) != 3 || list.More != 0 || list.Connections[1].State != admin.StateWaiting {
			third.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				third = s.open(testVIP(2)) // a listener that was just being opened had dropped it
			}
			return fmt.Errorf("got %+v", list)
		}
		return nil
	})
	open, waiting, connecting := list.Connections[0], list.Connections[1], list.Connections[2]
	if open.State != admin.StateOpen || open.Client != first.LocalAddr().String() || open.VIP != vip || open.VIPKind != "cluster" || open.Service != "web" ||
		open.Endpoint != echo.String() || open.Pod != "default/web-1" || open.ClientKind != "node" || open.Set != "cluster" || open.Family != "IPv4" || open.LocalPort == 0 ||
		open.BytesIn != 1 || open.BytesOut != 1 || open.ConnectMs < 0 || open.Source == "" || open.ID == "" || open.TCPClient != nil {
		t.Errorf("the open one is %+v", open)
	}
	if waiting.Client != second.LocalAddr().String() || waiting.VIP != vip || waiting.Endpoint != "" || waiting.ConnectMs != -1 {
		t.Errorf("the one that waits is %+v", waiting)
	}
	if connecting.State != admin.StateConnecting || connecting.Client != third.LocalAddr().String() || connecting.Service != "slow" || connecting.VIP != testVIP(2) {
		t.Errorf("the one that connects is %+v", connecting)
	}
	for _, c := range []struct {
		q    []string
		want []string
	}{
		{[]string{"service", "web"}, []string{open.ID, waiting.ID}},
		{[]string{"namespace", "other"}, nil},
		{[]string{"pod", "web-1"}, []string{open.ID}},
		{[]string{"pod", "default/web-1"}, []string{open.ID}},
		{[]string{"client", "127.0.0.0/8"}, []string{open.ID, waiting.ID, connecting.ID}},
		{[]string{"client", "10.0.0.1"}, nil},
		{[]string{"id", open.ID}, []string{open.ID}},
	} {
		var ids []string
		for _, one := range view[admin.Connections](s, "/v1/connections", c.q...).Connections {
			ids = append(ids, one.ID)
		}
		if !slices.Equal(ids, c.want) {
			t.Errorf("%v: %v, want %v", c.q, ids, c.want)
		}
	}
	if got := view[admin.Connections](s, "/v1/connections", "limit", "1"); len(got.Connections) != 1 || got.Connections[0].ID != open.ID || got.More != 2 {
		t.Errorf("one of them: %+v", got)
	}
	if got := view[admin.Connections](s, "/v1/connections", "id", open.ID).Connections[0]; got.TCPClient == nil || got.TCPBackend == nil ||
		got.TCPClient.State != "ESTAB" || got.TCPBackend.State != "ESTAB" || got.TCPClient.MSS == 0 || got.TCPClient.Cwnd == 0 || got.TCPBackend.Cwnd == 0 {
		t.Errorf("by its id: %+v", got)
	}
	if got := view[admin.Connections](s, "/v1/connections", "id", waiting.ID).Connections[0]; got.TCPClient != nil {
		t.Errorf("the sockets of one that waits: %+v", got)
	}
	s.wantFault(http.StatusNotFound, "/v1/connections", "id", "1-1")
	s.wantFault(http.StatusBadRequest, "/v1/connections", "limit", "-1")
	s.wantFault(http.StatusBadRequest, "/v1/connections", "client", "me")
	s.wantFault(http.StatusBadRequest, "/v1/connections", "reason", "ok")

	first.Close()
	s.eventually("the next has its turn", func() error {
		got := view[admin.Connections](s, "/v1/connections", "id", waiting.ID).Connections[0]
		if got.State != admin.StateOpen || got.Endpoint != echo.String() {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
}

func TestHalfClosedConnectionsAreShown(t *testing.T) {
	s := newShown(t)
	quiet := serveTCP(t, func(c net.Conn) { // sends its FIN only when it is told to
		io.Copy(io.Discard, c)
		<-t.Context().Done()
	})
	done := make(chan struct{})
	first := serveTCP(t, func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); <-done })
	t.Cleanup(func() { close(done) })
	s.set(append(with(service("web", vip), quiet), with(service("fin", testVIP(2)), first)...)...)
	s.eventually("it is served", func() error { _, err := dialled(testVIP(2)); return err })
	s.eventually("it is served", func() error { _, err := dialled(vip); return err })
	c, other := s.open(vip), s.open(testVIP(2))
	c.(*net.TCPConn).CloseWrite()
	for want, id := range map[string]string{"client": c.LocalAddr().String(), "backend": other.LocalAddr().String()} {
		s.eventually("half-closed by the "+want, func() error {
			for _, one := range view[admin.Connections](s, "/v1/connections").Connections {
				if one.Client == id && one.State == admin.StateHalfClosed && one.Closed == want {
					return nil
				}
			}
			return errors.New("it is not")
		})
	}
}

func TestAttemptsOfLiveConnectionsAreShown(t *testing.T) {
	s := newShown(t)
	echo := serveTCP(t, echoes)
	dead := deadBefore(t, echo)
	web := asking("balancer=first", "passive-health=off")
	objects := []any{web, pod("web-0", slice("web", dead)), pod("web-1", slice("web", echo))}
	s.set(objects...)
	s.served2(vip)
	s.eventually("one that was tried", func() error {
		c := s.open(vip)
		defer c.Close()
		if err := talk(c); err != nil {
			return err
		}
		list := view[admin.Connections](s, "/v1/connections", "pod", "web-0").Connections
		if len(list) != 1 {
			return fmt.Errorf("got %+v", list)
		}
		a := list[0].Attempts
		if len(a) != 1 || a[0].Endpoint != dead.String() || a[0].Pod != "default/web-0" || a[0].Result != "backend_refused" || a[0].Errno != "ECONNREFUSED" {
			t.Fatalf("the attempts are %+v", a)
		}
		return nil
	})
}

func TestSessionsAreShown(t *testing.T) {
	s := newShown(t)
	echo := packetEcho(t)
	s.set(datagramsTo("dns", vip, echo)...)
	s.answered(vip)
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("udp4", vip)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		for range 2 {
			if _, err := askAgain(c, patience); err != nil {
				t.Fatal(err)
			}
		}
	}
	var of []admin.Session
	for _, one := range view[admin.Sessions](s, "/v1/sessions").Sessions {
		if slices.ContainsFunc(conns, func(c net.Conn) bool { return c.LocalAddr().String() == one.Client }) {
			of = append(of, one)
		}
	}
	if len(of) != 3 || of[0].Client != conns[0].LocalAddr().String() || of[2].Client != conns[2].LocalAddr().String() {
		t.Fatalf("got %+v", of)
	}
	if got := of[0]; got.Namespace != "default" || got.Service != "dns" || got.VIP != vip || got.Endpoint != echo.String() || !got.Answered || got.DatagramsIn != 2 ||
		got.DatagramsOut != 2 || got.BytesIn != 8 || got.BytesOut != int64(2*len(echo.String())) || got.Family != "IPv4" || got.IdleSeconds > got.AgeSeconds+1 {
		t.Errorf("got %+v", got)
	}
	all := len(view[admin.Sessions](s, "/v1/sessions").Sessions)
	if got := view[admin.Sessions](s, "/v1/sessions", "limit", "1"); len(got.Sessions) != 1 || got.More != all-1 {
		t.Errorf("one of %d: %+v", all, got)
	}
	for _, q := range [][]string{{"service", "other"}, {"pod", "x"}, {"client", "10.0.0.1"}} {
		if got := view[admin.Sessions](s, "/v1/sessions", q...); len(got.Sessions) != 0 || got.More != 0 {
			t.Errorf("%v: %+v", q, got)
		}
	}
	s.wantFault(http.StatusBadRequest, "/v1/sessions", "id", "1")
	if n := s.total(); n.DatagramsIn < 6 || n.DatagramsOut < 6 || n.Protocol != "udp" || n.Recent != nil {
		t.Errorf("the traffic is %+v", n)
	}
}

func TestTheOldestAreKept(t *testing.T) {
	for _, limit := range []int{0, 3, 10000} {
		o, began := oldest{most: limit}, time.Now()
		const n = 5000
		for i := range n {
			s := udp.Live{Session: udp.Session{Start: began.Add(time.Duration(i * 7919 % n))}}
			o.add(s)
		}
		kept := o.end()
		if len(kept) != min(limit, n) || o.more != n-len(kept) || !slices.IsSortedFunc(kept, func(a, b udp.Live) int { return a.Start.Compare(b.Start) }) ||
			len(kept) > 0 && !kept[0].Start.Equal(began) {
			t.Errorf("of %d there are %d, and %d more", limit, len(kept), o.more)
		}
	}
}

func TestListenersAreShown(t *testing.T) {
	s := newShown(t)
	a := lasting(t)
	web := service("web", vip)
	web.Spec.Type, web.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(freeAddr(t).Port())
	s.set(append(with(web, a), service("none", testVIP(2)))...)
	s.eventually("connected", func() error { _, err := dialled(vip); return err })
	list := view[[]admin.Listener](s, "/v1/listeners", "service", "web")
	i := slices.IndexFunc(list, func(l admin.Listener) bool { return l.Address == vip })
	if i < 0 || len(list) < 2 {
		t.Fatalf("got %+v", list)
	}
	if got := list[i]; got.Answer != "serve" || got.Protocol != "tcp" || got.Family != "IPv4" || !slices.Equal(got.Frontends, []string{"cluster " + vip}) {
		t.Errorf("got %+v", got)
	}
	if got, want := list[(i+1)%len(list)], fmt.Sprintf("node port %d", web.Spec.Ports[0].NodePort); !slices.Equal(got.Frontends, []string{want}) {
		t.Errorf("of the node port: %+v", got)
	}
	if got := view[[]admin.Listener](s, "/v1/listeners", "service", "none"); len(got) != 1 || got[0].Answer != "refuse" {
		t.Errorf("without endpoints: %+v", got)
	}
}

// A bound socket keeps silent where its routes refuse: what counts is what clients get.
func TestTheAnswerOfABoundListener(t *testing.T) {
	addr := netip.MustParseAddrPort("10.96.0.1:80")
	web := Frontend{Kind: ClusterIP, Addr: addr.Addr(), Port: 80, Policy: Cluster}
	s := &socket{addr: addr, stream: &streamSocket{}}
	s.stream.now = silent
	for want, port := range map[string]*Port{
		"refuse":  {Frontends: []Frontend{web}},
		"silence": {Frontends: []Frontend{web}, Cluster: Eligible{Silent: true}},
	} {
		if got := s.answers(port); got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
	}
	s.stream.now = serving
	if got := s.answers(&Port{Frontends: []Frontend{web}}); got != "serve" { // until the next pass
		t.Errorf("it is %s", got)
	}
}

func TestWhoTalksToWhomIsShown(t *testing.T) {
	s := newShown(t)
	echo := serveTCP(t, echoes)
	dead := deadBefore(t, echo)
	here := slice("clients", netip.MustParseAddrPort("127.0.0.77:1"))
	s.set(asking("balancer=first", "passive-health=off"), pod("web-0", slice("web", dead)), pod("web-1", slice("web", echo)), pod("client-7", here))
	s.eventually("it is served", func() error { return get2(vip) })
	var all []net.Conn
	dial := func() {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}
		c, err := d.Dial("tcp", vip)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := talk(c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for range 4 {
		dial()
	}
	for _, c := range all[1:] {
		c.Close()
	}
	s.eventually("the edges", func() error {
		m := view[admin.Talk](s, "/v1/map")
		to := func(addr netip.AddrPort) admin.Edge {
			i := slices.IndexFunc(m.Edges, func(e admin.Edge) bool { return e.Client == "127.0.0.77" && e.Endpoint == addr.String() })
			if i < 0 {
				return admin.Edge{}
			}
			return m.Edges[i]
		}
		want := admin.Edge{Client: "127.0.0.77", ClientPod: "default/client-7", ClientKind: "node", Namespace: "default", Service: "web",
			Endpoint: echo.String(), Pod: "default/web-1", Count: 4, Active: 1, Bytes: 8}
		if got := to(echo); got != want || m.Seconds <= 0 || m.Seconds > 300 || m.More != 0 {
			return fmt.Errorf("got %+v in %+v", got, m)
		}
		if got := to(dead); got.Failed != 3 || got.Count != 0 || got.Pod != "default/web-0" {
			return fmt.Errorf("of the dead one: %+v", got)
		}
		return nil
	})
}

// ended puts a record of a connection to the default/web of the scene into the ring.
func (s *shown) ended(client netip.AddrPort, change func(*observe.Record)) {
	metrics := s.proxier.observed.Port("default", "web", "", "tcp")
	r := s.proxier.data.observer.Open(metrics)
	r.Client = client
	r.End()
	r.Reason = observe.OK
	change(r)
	s.proxier.data.observer.Closed(metrics, r)
}

func TestAMapIsBounded(t *testing.T) {
	s := newShown(t, func(c *Config) { c.OnRecord = nil })
	s.set(with(service("web", vip), freeAddr(t))...)
	s.eventually("it is served", func() error { _, err := dialled(vip); return err })
	for i := range mostEdges + 100 {
		s.ended(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1), func(*observe.Record) {})
	}
	const most = 500 // more than it took until usher answered
	for range most {
		s.ended(netip.MustParseAddrPort("10.2.0.1:1"), func(*observe.Record) {})
	}
	m := view[admin.Talk](s, "/v1/map")
	if len(m.Edges) != mostEdges || m.More < 100 || m.Edges[0].Client != "10.2.0.1" || m.Edges[0].Count != most {
		t.Errorf("there are %d edges and %d more, the first is %+v", len(m.Edges), m.More, m.Edges[0])
	}
}

// attention is what is told of a reason.
func (s *shown) attention(reason string) (list []admin.Attention) {
	for _, a := range view[[]admin.Attention](s, "/v1/attention") {
		if a.Reason == reason {
			list = append(list, a)
		}
	}
	return list
}

func (s *shown) wantAttention(reason string, want admin.Attention) {
	s.t.Helper()
	want.Reason = reason
	s.eventually(reason, func() error {
		got := s.attention(reason)
		if len(got) != 1 || !strings.Contains(got[0].Message, want.Message) {
			return fmt.Errorf("got %+v", got)
		}
		got[0].Message = want.Message
		if got[0] != want {
			return fmt.Errorf("got %+v, want %+v", got[0], want)
		}
		return nil
	})
}

func TestServicesWithoutEndpointsNeedAttention(t *testing.T) {
	s := newShown(t, onNode1)
	a := newBackend(t).addr
	s.set(with(service("web", vip), a)...)
	s.served(vip)
	if got := view[[]admin.Attention](s, "/v1/attention"); len(got) != 0 {
		t.Errorf("while all is well: %+v", got)
	}
	s.set(service("web", vip), service("idle", testVIP(2)))
	of := admin.Attention{Severity: admin.SeverityError, Kind: "Service", Namespace: "default", Name: "web", Port: "8080/tcp", Reason: "NoEndpoints"}
	idle := of
	idle.Severity, idle.Name = admin.SeverityWarning, "idle"
	s.eventually("both are told of, the worse first", func() error {
		got := s.attention("NoEndpoints")
		if len(got) != 2 || !strings.Contains(got[0].Message, "refused now") || !strings.Contains(got[0].Message, "look at its selector") {
			return fmt.Errorf("got %+v", got)
		}
		got[0].Message, got[1].Message = "", ""
		if got[0] != of || got[1] != idle {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	gone := slice("web", a)
	gone.Endpoints[0].Conditions = conditions(false, false, false)
	s.set(service("web", vip), gone)
	s.wantAttention("NoEndpoints", admin.Attention{Severity: admin.SeverityError, Kind: "Service", Namespace: "default", Name: "web", Port: "8080/tcp",
		Message: "of 1 endpoint none is ready"})
}

// The lesson of the demo: clients notice nothing, and somebody should all the same.
func TestADeadEndpointNeedsAttention(t *testing.T) {
	s := newShown(t)
	dead := freeAddr(t)
	web := asking("balancer=round-robin", "passive-health=off")
	s.set(web, pod("web-0", slice("web", dead)), slice("web", serveTCP(t, echoes)))
	of := admin.Attention{Severity: admin.SeverityWarning, Kind: "Service", Namespace: "default", Name: "web", Port: "8080/tcp"}
	s.eventually("both were asked", func() error {
		if err := get2(vip); err != nil {
			return err
		}
		if s.total().Retried < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	got := s.attention("EndpointFailing")
	says := regexp.MustCompile(fmt.Sprintf(`^pod default/web-0 \(%s\) failed (\d+) of (\d+) attempts in the last \d+s \(ECONNREFUSED\), \d+ connections got another endpoint by a retry; look at whether it listens there$`,
		regexp.QuoteMeta(dead.String())))
	if len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	if m := says.FindStringSubmatch(got[0].Message); m == nil || m[1] != m[2] {
		t.Fatalf("it says %q", got[0].Message)
	}
	of.Message, of.Reason = got[0].Message, "EndpointFailing"
	if got[0] != of {
		t.Errorf("got %+v, want %+v", got[0], of)
	}
	web = web.DeepCopy()
	web.Annotations = nil
	s.set(web, pod("web-0", slice("web", dead)), slice("web", serveTCP(t, echoes)))
	s.eventually("it is left out, and told once", func() error {
		if err := get2(vip); err != nil {
			return err
		}
		ejected, failing := s.attention("EndpointEjected"), s.attention("EndpointFailing")
		if len(ejected) != 1 || len(failing) != 0 || !strings.Contains(ejected[0].Message, "ill for") ||
			!strings.Contains(ejected[0].Message, "; it failed ") || !strings.Contains(ejected[0].Message, "by a retry") {
			return fmt.Errorf("got %+v and %+v", ejected, failing)
		}
		return nil
	})
	s.set(web, slice("web", serveTCP(t, echoes)))
	s.eventually("it has left, and is forgotten", func() error {
		if got := view[[]admin.Attention](s, "/v1/attention"); len(got) != 0 {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
}

// A limit on single clients does what it was asked for: that may need a look, but the
// Service is not in trouble.
func TestLimitsNeedAttention(t *testing.T) {
	for _, c := range []struct{ limit, reason, severity, message string }{
		{"max-connections=1", "ServiceLimitHit", admin.SeverityError, "as many connections as it may; raise max-connections"},
		{"max-connections-per-client=1", "ClientLimitHit", admin.SeverityWarning, "as many connections as it may; raise max-connections-per-client"},
	} {
		t.Run(c.limit, func(t *testing.T) {
			s := newShown(t)
			s.set(asking(c.limit), slice("web", serveTCP(t, echoes)))
			s.served2(vip)
			first := s.open(vip)
			if err := talk(first); err != nil {
				t.Fatal(err)
			}
			if err := get2(vip); err == nil {
				t.Error("a second one is served")
			}
			s.wantAttention(c.reason, admin.Attention{Severity: c.severity, Kind: "Service", Namespace: "default", Name: "web", Port: "8080/tcp",
				Message: c.message})
		})
	}
}

func TestFailuresAndProblemsNeedAttention(t *testing.T) {
	s := newShown(t)
	web := asking("no-such=1")
	s.set(web, slice("web", freeAddr(t)))
	s.eventually("nobody is there", func() error {
		if err := get2(vip); err == nil {
			return errors.New("somebody is")
		}
		if len(s.attention("ConnectionsFail")) == 0 {
			return errors.New("it is not told")
		}
		return nil
	})
	got := s.attention("ConnectionsFail")[0]
	if got.Severity != admin.SeverityError || !strings.Contains(got.Message, "got no endpoint (ECONNREFUSED)") {
		t.Errorf("got %+v", got)
	}
	if got := s.attention("InvalidUsherAnnotation"); len(got) != 1 || !strings.Contains(got[0].Message, "no-such") {
		t.Errorf("the problems are %+v", view[[]admin.Attention](s, "/v1/attention"))
	}
}

func TestAttentionIsBounded(t *testing.T) {
	s := newShown(t, onNode1)
	var all []any
	for i := range mostAttention + 20 {
		o := service(fmt.Sprintf("web-%03d", i), fmt.Sprintf("127.%d.%d.%d:%d", 90, i>>8, i&255, 8080))
		all = append(all, o)
	}
	s.set(all...)
	s.eventually("all are told of", func() error {
		got := view[[]admin.Attention](s, "/v1/attention")
		if len(got) != mostAttention+1 || got[mostAttention].Reason != "More" || !strings.HasPrefix(got[mostAttention].Message, "20 more") {
			return fmt.Errorf("%d are, the last is %+v", len(got), got[len(got)-1])
		}
		return nil
	})
}

func TestDropsNeedAttentionForAWhile(t *testing.T) {
	var d dropping
	if d.recent(0) != 0 || d.recent(5) != 5 || d.recent(5) != 5 {
		t.Error("they are not told of")
	}
	d.grown = time.Now().Add(-2 * lookBack)
	if d.recent(5) != 0 || d.recent(6) != 6 {
		t.Error("they are told of for ever, or not again")
	}
}

func (s *shown) flows(q url.Values, each func([]byte) error) error {
	return admin.Stream(s.t.Context(), s.socket, http.MethodGet, "/v1/flows", q, each, nil)
}

// told are the ids of the records that come.
func (s *shown) ids(pairs ...string) (ids []string) {
	s.t.Helper()
	if err := s.flows(query(pairs...), func(line []byte) error {
		var r struct{ ID string }
		err := json.Unmarshal(line, &r)
		ids = append(ids, r.ID)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	return ids
}

func TestFlows(t *testing.T) {
	s := newShown(t)
	s.set(with(service("web", vip), newBackend(t).addr)...)
	s.served(vip)
	var ids []string
	var records []*observe.Record
	for range 5 {
		if _, err := get(vip); err != nil {
			t.Fatal(err)
		}
		r := s.record()
		ids, records = append(ids, r.ID()), append(records, r)
	}
	if got := s.ids("last", "5"); !slices.Equal(got, ids) {
		t.Errorf("the last 5 are %v, want %v", got, ids)
	}
	if got := s.ids("last", "2", "service", "default/web", "reason", "ok"); !slices.Equal(got, ids[3:]) {
		t.Errorf("the last 2 are %v", got)
	}
	if got := s.ids(); len(got) != 6 {
		t.Errorf("all are %v", got)
	}
	if got := s.ids("errors", "true"); len(got) != 0 {
		t.Errorf("errors are %v", got)
	}
	for _, q := range [][]string{{"last", "x"}, {"follow", "x"}, {"reason", "x"}, {"client", "x"}, {"lats", "1"}} {
		var answer *admin.Error
		if err := s.flows(query(q...), func([]byte) error { return nil }); !errors.As(err, &answer) || answer.Status != 400 {
			t.Errorf("%v: %v", q, err)
		}
	}

	// A line is that of the log.
	var line map[string]any
	if err := s.flows(query("last", "1"), func(text []byte) error { return json.Unmarshal(text, &line) }); err != nil {
		t.Fatal(err)
	}
	last := records[4]
	want, _ := json.Marshal(last)
	var fields map[string]any
	json.Unmarshal(want, &fields)
	fields["ts"], fields["level"], fields["msg"] = last.EndTime().Format(time.RFC3339Nano), "info", last.Sentence()
	if !reflect.DeepEqual(line, fields) {
		t.Errorf("got  %v\nwant %v", line, fields)
	}

	// Who follows gets those that come, wanted ones only.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := make(chan string, 100)
	var followed sync.WaitGroup
	followed.Go(func() {
		err := admin.Stream(ctx, s.socket, http.MethodGet, "/v1/flows", query("follow", "true", "last", "1", "client", "127.0.0.0/8"), func(line []byte) error {
			var r struct{ ID string }
			err := json.Unmarshal(line, &r)
			lines <- r.ID
			return err
		}, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ends by %v", err)
		}
	})
	next := func() string {
		select {
		case id := <-lines:
			return id
		case <-time.After(patience):
			t.Fatal("nothing comes")
			return ""
		}
	}
	if id := next(); id != ids[4] {
		t.Errorf("first comes %s", id)
	}
	if _, err := get(vip); err != nil {
		t.Fatal(err)
	}
	if id, want := next(), s.record().ID(); id != want {
		t.Errorf("then comes %s, want %s", id, want)
	}
	cancel()
	followed.Wait()
}

// Who follows and does not read loses records and is told how many; nobody else notices.
func TestAFollowerThatDoesNotRead(t *testing.T) {
	s := newShown(t, func(c *Config) { c.RingSize, c.OnRecord = 256, nil })
	s.set(with(service("web", vip), serveTCP(t, echoes))...)
	s.eventually("it is served", func() error { return get2(vip) })
	resume, begun := make(chan struct{}), make(chan struct{})
	lost, got := 0, 0
	enough := errors.New("enough")
	ended := make(chan error, 1)
	go func() {
		ended <- s.flows(query("follow", "true", "last", "1"), func(line []byte) error {
			if got == 0 {
				close(begun)
				<-resume
			}
			got++
			var l struct{ Lost int }
			if err := json.Unmarshal(line, &l); err != nil {
				return err
			}
			lost += l.Lost
			if lost > 0 && l.Lost == 0 {
				return enough
			}
			return nil
		})
	}()
	<-begun
	n := 0
	for s.proxier.recent.Lost() == 0 {
		s.ended(netip.MustParseAddrPort("10.0.0.1:1"), func(*observe.Record) {})
		if n++; n%1000 == 0 {
			if err := get2(vip); err != nil {
				t.Fatalf("a client meanwhile: %v", err)
			}
		}
		if n > 20_000_000 {
			close(resume)
			t.Fatal("it is waited for")
		}
	}
	close(resume)
	for told := false; !told; {
		select {
		case err := <-ended:
			if told = true; err != enough {
				t.Errorf("it ends by %v", err)
			}
		case <-time.After(time.Millisecond): // it hears of what was lost with the next one
			s.ended(netip.MustParseAddrPort("10.0.0.1:1"), func(*observe.Record) {})
		}
	}
	if got := s.proxier.Status().Ring.Lost; uint64(lost) > got || lost == 0 {
		t.Errorf("it was told of %d lost, the status of %d", lost, got)
	}
}

func TestFollowersEndWithUsher(t *testing.T) {
	s := newShown(t)
	s.set(with(service("web", vip), newBackend(t).addr)...)
	s.served(vip)
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.flows(query("follow", "true"), func([]byte) error { close(begun); return nil })
	}()
	<-begun
	s.stop()
	select {
	case err := <-ended:
		if !errors.Is(err, admin.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Error("it goes on")
	}
}

// For the race detector.
func TestViewsWhileEverythingMoves(t *testing.T) {
	s := newShown(t, func(c *Config) { c.OnRecord = nil })
	echo, dead, once := serveTCP(t, echoes), freeAddr(t), serveTCP(t, func(c net.Conn) {})
	replays := asking("retry-on=refused,reset-early")
	udp := datagramsTo("dns", testVIP(3), packetEcho(t))
	all := func(more ...netip.AddrPort) []any {
		return append(append(with(replays, append(more, echo, dead)...), with(service("other", testVIP(2)), echo, dead)...), udp...)
	}
	s.set(all()...)
	s.eventually("it is served", func() error { return get2(vip) })
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for ctx.Err() == nil {
				get2([]string{vip, testVIP(2)}[i%2])
			}
		})
	}
	running.Go(func() {
		for ctx.Err() == nil {
			ask(testVIP(3), 100*time.Millisecond)
		}
	})
	running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			s.scene.set(all([]netip.AddrPort{once}[:i%2]...)...)
			time.Sleep(5 * time.Millisecond)
		}
	})
	for range 3 {
		running.Go(func() {
			admin.Stream(ctx, s.socket, http.MethodGet, "/v1/flows", query("follow", "true"), func([]byte) error { return nil }, nil)
		})
	}
	for range 60 {
		for _, path := range []string{"status", "attention", "services", "traffic", "map", "connections", "sessions", "listeners", "endpoints"} {
			var answer any
			if err := admin.Get(t.Context(), s.socket, "/v1/"+path, nil, &answer); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		for i, c := range view[admin.Connections](s, "/v1/connections", "limit", "3", "pod", "x").Connections {
			t.Errorf("%d: %+v", i, c)
		}
		for _, c := range view[admin.Connections](s, "/v1/connections", "limit", "3").Connections {
			admin.Get(t.Context(), s.socket, "/v1/connections", query("id", c.ID), &admin.Connections{}) // it may have ended
		}
	}
	stop()
	running.Wait()
}

// What the goroutine that serves a connection may still write is not read, and what the
// metrics have is not counted again.
func TestHowMuchOfAConnectionIsShown(t *testing.T) {
	s := newShown(t)
	s.set(with(service("web", vip), serveTCP(t, echoes))...)
	s.served2(vip)
	client := s.open(vip)
	if err := talk(client); err != nil {
		t.Fatal(err)
	}
	all := s.proxier.data.connections.all()
	if len(all) != 1 {
		t.Fatalf("there are %d connections", len(all))
	}
	c := all[0]
	s.eventually("what it has moved", func() error {
		if in, out := c.moved(); in != 1 || out != 1 {
			return fmt.Errorf("%d and %d bytes", in, out)
		}
		return nil
	})
	c.setOver()
	if in, out := c.moved(); in != 0 || out != 0 {
		t.Errorf("at its end: %d and %d bytes", in, out)
	}
	r := s.proxier.data.observer.Open(c.shared.metrics)
	r.Client, r.VIP, r.Listener, r.Set = c.record.Client, addrPort(client.RemoteAddr()), addrPort(client.RemoteAddr()), observe.WordOf(ClusterSet)
	early := &connection{listener: c.listener, record: r}
	if v := early.view(time.Now()); v.VIP != "" || v.Endpoint != "" || v.Set != "" || v.Listener != "" || v.Client != client.LocalAddr().String() || v.State != admin.StateConnecting {
		t.Errorf("of one that was just accepted: %+v", v)
	}
}

func TestWhatWasToldNeverShrinks(t *testing.T) {
	var told toldBytes
	port := &observe.PortMetrics{}
	for _, c := range []struct{ now, want uint64 }{{5, 5}, {3, 5}, {9, 9}, {0, 9}} {
		list := []observe.Numbers{{PortMetrics: port, BytesIn: c.now, BytesOut: 2 * c.now}}
		if told.grow(list); list[0].BytesIn != c.want || list[0].BytesOut != 2*c.want {
			t.Errorf("of %d: %d and %d", c.now, list[0].BytesIn, list[0].BytesOut)
		}
	}
	told.grow(nil)
	if len(told.bytes) != 0 {
		t.Error("a port that is gone is remembered")
	}
}

func TestWhatAServiceAsksForIsShown(t *testing.T) {
	s := newShown(t)
	plain, web := service("plain", testVIP(2)), service("web", vip)
	web.Spec.Type, web.Spec.ExternalTrafficPolicy, web.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, int32(freeAddr(t).Port())
	web.Spec.SessionAffinity, web.Spec.LoadBalancerSourceRanges = corev1.ServiceAffinityClientIP, []string{"192.0.2.0/24"}
	web.Annotations = map[string]string{"usher-proxy.io/retries": "many", "example.com/team": "shop"}
	internalLocal(web)
	s.set(append(with(web, lasting(t)), plain)...)
	s.eventually("they are served", func() error {
		if n := len(s.proxier.Services("", "")); n != 2 {
			return fmt.Errorf("%d Services", n)
		}
		return nil
	})
	got := s.proxier.Services("default", "web")[0]
	if got.Affinity != "ClientIP, for 3h0m0s" || got.ExternalPolicy != "Local" || got.InternalPolicy != "Local" || got.HealthCheckPort != web.Spec.HealthCheckNodePort ||
		!slices.Equal(got.SourceRanges, []string{"192.0.2.0/24"}) || len(got.Annotations) != 1 || got.Annotations["usher-proxy.io/retries"] != "many" {
		t.Errorf("got %+v", got)
	}
	if got := s.proxier.Services("default", "plain")[0]; got.Affinity+got.ExternalPolicy+got.InternalPolicy != "" || got.SourceRanges != nil || got.Annotations != nil {
		t.Errorf("the plain one: %+v", got)
	}
}
