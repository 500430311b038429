package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
)

// Service is a Service whose load balancer asks every node for local endpoints
// (Service.spec.healthCheckNodePort).
type Service struct {
	Namespace, Name string
	Port            uint16 // not 0
	// Local counts the addresses of ready endpoints on this node, in each family
	// that the Service has. In others its port is not answered.
	Local map[corev1.IPFamily]int
}

// ListenError is that an address of a health check could not be listened on.
type ListenError struct {
	Namespace, Name string // of the Service
	Addr            netip.AddrPort
	Err             error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot answer health checks of %s/%s on %s, trying again: %v", e.Namespace, e.Name, e.Addr, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// Services answers the health checks of Services. Sync and Close belong to one
// goroutine.
type Services struct {
	// Listen listens at an address, for its family only, as the function Listen does unless
	// another one is set before the first Sync.
	Listen      func(netip.AddrPort) (net.Listener, error)
	healthy     func() bool
	connections *connections
	servers     map[netip.AddrPort]*serviceServer
	serving     sync.WaitGroup
}

// NewServices returns Services without any. healthy tells whether the proxy
// itself is healthy, such as Proxy.Serving; nil: it is not.
func NewServices(healthy func() bool) *Services {
	if healthy == nil {
		healthy = func() bool { return false }
	}
	return &Services{Listen: Listen, healthy: healthy, connections: &connections{limit: connectionLimit}, servers: map[netip.AddrPort]*serviceServer{}}
}

// Sync makes the health checks of exactly these Services be answered, on these
// addresses of the node; the unspecified address of a family stands for all of
// it, and for that family alone. An answer that changes is swapped, also when
// its port goes to another Service: no listener is restarted for it.
//
// An address that cannot be listened on harms no other. It is returned, and tried
// again by the next Sync. Of several Services with one port the first gets it.
func (s *Services) Sync(want []Service, addresses []netip.Addr) (failed []*ListenError) {
	answers := map[netip.AddrPort]*checked{}
	var open []netip.AddrPort
	for _, service := range want {
		for _, addr := range specific(addresses) {
			local, ok := service.Local[familyOf(addr)]
			if !ok {
				continue
			}
			at := netip.AddrPortFrom(addr, service.Port)
			if other := answers[at]; other != nil {
				failed = append(failed, &ListenError{service.Namespace, service.Name, at,
					fmt.Errorf("Service %s/%s has the same healthCheckNodePort", other.namespace, other.name)})
				continue
			}
			answers[at] = &checked{service.Namespace, service.Name, local}
			open = append(open, at)
		}
	}
	s.closeAllBut(answers) // before others are opened: what goes may be in their way
	for _, at := range open {
		if err := s.serve(at, answers[at]); err != nil {
			failed = append(failed, &ListenError{answers[at].namespace, answers[at].name, at, err})
		}
	}
	return failed
}

// Close ends all health checks: from then on connections are refused.
func (s *Services) Close() {
	s.closeAllBut(nil)
	s.serving.Wait()
}

func (s *Services) closeAllBut(answers map[netip.AddrPort]*checked) {
	for at, server := range s.servers {
		if answers[at] == nil || server.ended.Load() {
			server.close()
			delete(s.servers, at)
		}
	}
}

func (s *Services) serve(at netip.AddrPort, answer *checked) error {
	server := s.servers[at]
	if server == nil {
		listener, err := s.Listen(at)
		if err != nil {
			return err
		}
		server = &serviceServer{healthy: s.healthy, listener: listener}
		server.http = limited(server, s.connections)
		s.servers[at] = server
		s.serving.Go(func() {
			server.http.Serve(listener) // whatever it ends with: the next Sync sees that it did
			server.ended.Store(true)
		})
	}
	server.answer.Store(answer)
	return nil
}

// Listen hears one family only, so that a Service without the other one is not
// answered for there.
func Listen(at netip.AddrPort) (net.Listener, error) {
	network := "tcp6"
	if at.Addr().Is4() {
		network = "tcp4"
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), network, at.String())
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return nil, op.Err // the address is told by whoever tells the error
	}
	return l, err
}

// serviceServer answers on one address. Its answer is nil until there is one and
// once there is none any more.
type serviceServer struct {
	healthy  func() bool
	listener net.Listener
	http     *http.Server
	answer   atomic.Pointer[checked]
	ended    atomic.Bool
}

// checked is what a health check is told about.
type checked struct {
	namespace, name string
	local           int
}

func (s *serviceServer) close() {
	s.answer.Store(nil)
	s.listener.Close() // http may not know it yet
	s.http.Close()
}

// weight is the header that tells a load balancer how much of the traffic this
// node should get.
const weight = "X-Load-Balancing-Endpoint-Weight"

// ServeHTTP answers any path and method: load balancers differ in what they ask.
func (s *serviceServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c := s.answer.Load()
	if c == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var body struct {
		Service struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"service"`
		LocalEndpoints      int  `json:"localEndpoints"`
		ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
	}
	body.Service.Namespace, body.Service.Name = c.namespace, c.name
	body.LocalEndpoints, body.ServiceProxyHealthy = c.local, s.healthy()
	code := http.StatusServiceUnavailable
	if c.local > 0 && body.ServiceProxyHealthy {
		code = http.StatusOK
	}
	text, _ := json.MarshalIndent(body, "", "\t") // it is made of nothing that could fail
	w.Header().Set(weight, strconv.Itoa(c.local))
	answer(w, code, text)
}

// specific leaves out what an unspecified address of the list stands for, and
// what is there twice.
func specific(addresses []netip.Addr) (list []netip.Addr) {
	for _, a := range addresses {
		a = a.Unmap()
		all := netip.IPv6Unspecified()
		if a.Is4() {
			all = netip.IPv4Unspecified()
		}
		if (a == all || !slices.Contains(addresses, all)) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
