package proxier

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/udp"
)

// lastReplies is how long the clients of UDP Services get their last replies when
// this process stops.
const lastReplies = time.Second

// A loop can use one core. The readers of a socket are as many of them: they pay
// where clients and endpoints leave them a core each.
const (
	maxLoops   = 8
	maxReaders = 4
)

// newPackets makes what moves datagrams, and what counts connections: these two
// share the files that this process may open.
func newPackets(cfg *Config, mark int) (*connections, *udp.Relay, error) {
	var relay *udp.Relay
	connections := newConnections(cfg.MaxConnections, func() int { return relay.Len() })
	relay, err := udp.New(udp.Config{
		Mark: mark, Loops: min(cfg.Cores, maxLoops), Readers: packetReaders(cfg.Cores),
		Limit: func() int { return sessionLimit(cfg.MaxUDPSessions, connections) },
	})
	return connections, relay, err
}

// packetReaders is how many files a UDP socket is read from, at most.
func packetReaders(cores int) int { return min(max(cores/2, 1), maxReaders) }

// sessionLimit is how many UDP sessions there may be: half of the files unless a
// number was asked for, and no more than connections leave. Each needs a local
// port, too: half of those are left for others.
func sessionLimit(asked int, c *connections) int {
	free := c.files()
	if asked == 0 {
		asked = min(free/2, localPorts()/2)
	}
	return min(asked, free-c.count()*limit.FilesPerConnection)
}

// localPorts is how many ports the kernel takes those of our sockets from
// (ip(7): ip_local_port_range).
var localPorts = sync.OnceValue(func() int {
	text, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	var first, last int
	if n, _ := fmt.Sscan(string(text), &first, &last); n < 2 || last < first {
		first, last = 32768, 60999
	}
	return last - first + 1
})

// packetSocket is one bound UDP socket.
type packetSocket struct {
	*udp.Socket
	now answer
	// What another process has handed over, until it is served; nil: nothing, or not any more.
	inherited *udp.SocketState
	relay     *udp.Relay
	sessions  *udp.Group
	server    udp.Server // the last one
	kept      []KeptFile // while it serves: see keep
}

func openPacket(relay *udp.Relay, addr netip.AddrPort, sessions *udp.Group) (*packetSocket, error) {
	s, err := relay.Listen(addr, sessions)
	if err != nil {
		return nil, err
	}
	return &packetSocket{Socket: s, relay: relay, sessions: sessions}, nil
}

// resume goes on with what was released.
func (s *packetSocket) resume(state udp.SocketState) (err error) {
	s.Socket, err = s.relay.Resume(state, s.sessions, s.server)
	return err
}

// inherit goes on with what was handed over. If that cannot be, the address is served all
// the same.
func (s *packetSocket) inherit() error {
	state := *s.inherited
	lost := s.resume(state)
	if lost == nil {
		s.inherited, s.now = nil, answer{listen: len(state.Readers) > 0, limited: true}
		return nil
	}
	s.inherited = &udp.SocketState{Addr: state.Addr, FD: -1} // its files are closed
	another, err := openPacket(s.relay, state.Addr, s.sessions)
	if err != nil {
		return errors.Join(lost, err)
	}
	s.Socket, s.inherited = another.Socket, nil
	return fmt.Errorf("its sessions are lost: %w", lost)
}

// Close is that of udp.Socket. Nothing may be there yet.
func (s *packetSocket) Close(reason observe.Reason) {
	if s.Socket != nil {
		s.Socket.Close(reason)
	}
}

// give makes want the answer from now on.
func (s *packetSocket) give(want answer, server udp.Server) error {
	err := s.answer(want, server)
	switch {
	case err != nil || !s.now.listen:
		s.kept = nil
	case s.kept == nil:
		s.kept = s.toKeep()
	}
	return err
}

func (s *packetSocket) answer(want answer, server udp.Server) (err error) {
	s.server = server
	if s.inherited != nil {
		if err := s.inherit(); err != nil {
			return err
		}
	}
	switch {
	case !want.listen && !s.now.listen:
		return nil
	case !want.listen:
		s.Refuse()
	default:
		if !s.now.equal(want) {
			err = s.Filter(want.filter)
		}
		err = errors.Join(err, s.Serve(server))
	}
	if err == nil {
		s.now = want
	}
	return err
}

// packetServer serves the clients of one UDP socket by one state of its Port.
type packetServer struct {
	*listener
	state *state
	set   Set      // empty: each client's
	only  Frontend // the zero Frontend: that which the client has sent to
}

// packetRoute is what is to be remembered of a client's way to its endpoint.
type packetRoute struct {
	pick     balancer.Pick
	frontend Frontend
	vip      netip.AddrPort // without address if it is not known
	client   clientKind
	set      Set
	eligible int
	known    int
	// terminating: the endpoints of the set are on their way out.
	terminating bool
	sourceWhy   string
}

// Route picks an endpoint for a client.
func (p *packetServer) Route(client, local netip.AddrPort, tried []netip.AddrPort) (route udp.Route, err error) {
	defer p.survive(func() { err = &udp.Refusal{Cause: observe.DropError} })
	port := p.state.port
	r := &packetRoute{client: p.clients.Load().kind(client.Addr())}
	if !p.arrive(r, local) {
		return route, &udp.Refusal{Cause: observe.DropError} // its rules are on their way out
	}
	if !port.admits(client.Addr(), r.frontend) {
		return route, &udp.Refusal{Cause: observe.DropSourceDenied}
	}
	if p.served.Load().isOwn(client, port.Protocol) {
		return route, &udp.Refusal{Cause: observe.DropLoop}
	}
	r.set = p.setFor(r)
	of := port.eligible(r.set)
	r.known, r.eligible, r.terminating = port.Known, len(of.Endpoints), of.Terminating
	if r.pick, err = (*p.state.pickers.of(r.set)).Pick(balancer.Request{Client: client.Addr(), Tried: tried}); err != nil {
		return route, &udp.Refusal{Cause: observe.DropNoEndpoint}
	}
	from, why := p.source.from(client.Addr(), r.pick.Endpoint, r.frontend.promisesSource(), p.clients.Load())
	r.sourceWhy = why
	return udp.Route{To: r.pick.Endpoint.Addr, From: from, Of: r, Unused: p.unused(r.pick)}, nil
}

// unused ends a pick that no session came of.
func (p *packetServer) unused(pick balancer.Pick) func(error) {
	return func(err error) {
		defer p.survive(func() {})
		switch observe.ReasonOf(err) {
		case observe.BackendRefused, observe.BackendUnreachable:
			p.health.Report(pick.Endpoint.Addr, err)
		default:
			err = nil // it says nothing of the endpoint
		}
		if pick.Done != nil {
			pick.Done(balancer.Outcome{Err: err})
		}
	}
}

// arrive finds out which frontend a client has sent to.
func (p *packetServer) arrive(r *packetRoute, local netip.AddrPort) bool {
	if p.only != (Frontend{}) {
		r.frontend, r.vip = p.only, netip.AddrPortFrom(p.only.Addr, p.only.Port)
		for _, f := range p.state.port.Frontends { // its policy may have changed
			if f.Kind == p.only.Kind && f.Addr == p.only.Addr && f.Port == p.only.Port {
				r.frontend = f
			}
		}
		return true
	}
	f, ok := p.state.frontend(local)
	r.frontend, r.vip = f, local
	return ok
}

func (p *packetServer) setFor(r *packetRoute) Set {
	if p.set != "" {
		return p.set
	}
	return r.frontend.Policy.set(r.client.here())
}

// Keeps tells whether a client may stay with its endpoint.
func (p *packetServer) Keeps(route udp.Route) bool {
	r := route.Of.(*packetRoute)
	now := *r
	if p.only == (Frontend{}) {
		f, ok := p.state.frontend(r.vip)
		if !ok {
			return false
		}
		now.frontend = f
	}
	if p.setFor(&now) != r.set {
		return false
	}
	return p.state.port.eligible(r.set).has(route.To) && !p.health.Out(string(r.set), route.To)
}

// Opened counts a session.
func (p *packetServer) Opened() { p.observer.Opened(p.shared.metrics) }

// Datagrams and Dropped count datagrams.
func (p *packetServer) Datagrams(in, bytesIn, out, bytesOut int) {
	p.shared.metrics.Datagrams(in, bytesIn, out, bytesOut)
}

// Dropped counts datagrams that went nowhere.
func (p *packetServer) Dropped(cause observe.DropCause, n int) { p.shared.metrics.Dropped(cause, n) }

// Closed tells the record of a session.
func (p *packetServer) Closed(s udp.Session) {
	of := s.Route.Of.(*packetRoute)
	r := p.observer.Record(p.shared.metrics, s.Start)
	r.Family, r.Balancer = uint8(p.key.Family), observe.WordOf(p.state.port.Settings.Balancer)
	r.Client, r.ClientKind = s.Client, observe.WordOf(of.client)
	r.VIP, r.VIPKind, r.Listener = of.vip, observe.WordOf(of.frontend.Kind), s.Local
	r.Set, r.Affinity = observe.WordOf(of.set), observe.WordOf(of.pick.Affinity)
	r.Candidates, r.Eligible = observe.Count(of.known), observe.Count(of.eligible)
	r.Pick = whyPicked(of.terminating, r)
	r.SetBackend(of.pick.Endpoint)
	r.LocalPort = s.LocalPort
	noteSource(r, s.Route.From)
	r.SourceWhy = observe.WordOf(of.sourceWhy)
	for _, refused := range s.Tried {
		r.Attempts = append(r.Attempts, observe.Attempt{Backend: refused, Result: observe.BackendRefused, Errno: "ECONNREFUSED"})
	}
	r.DatagramsIn, r.DatagramsOut, r.Dropped = s.In, s.Out, s.Dropped
	r.BytesIn, r.BytesOut, r.FirstReply = s.BytesIn, s.BytesOut, s.FirstReply
	r.Reason, r.Errno = s.Reason, observe.ErrnoName(s.Err)
	p.observer.Closed(p.shared.metrics, r)
	defer p.survive(func() {})
	p.reportAnswer(s)
	if of.pick.Done != nil {
		of.pick.Done(balancer.Outcome{Err: s.Err})
	}
}

// Refused tells what a refusal says of its endpoint.
func (p *packetServer) Refused(r udp.Route, err error) {
	defer p.survive(func() {})
	p.refusals.note(r.To)
	p.health.Report(r.To, err)
}

// reportAnswer tells what an answer says of its endpoint. That there was none says
// nothing: many take datagrams in silence. Neither does an answer from before the
// endpoint has refused something, as sessions may be long over when they end.
func (p *packetServer) reportAnswer(s udp.Session) {
	if s.FirstReply >= 0 && s.Start.Add(s.FirstReply).After(p.refusals.last(s.Route.To)) {
		p.health.Report(s.Route.To, nil)
	}
}

// refusals are when endpoints have last refused datagrams. It is safe for concurrent
// use.
type refusals struct {
	mu sync.Mutex
	at map[netip.AddrPort]time.Time
}

func (r *refusals) note(endpoint netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[netip.AddrPort]time.Time{}
	}
	r.at[endpoint] = time.Now()
}

func (r *refusals) last(endpoint netip.AddrPort) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[endpoint]
}

// keep forgets the endpoints that a Port does not have.
func (r *refusals) keep(port *Port) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.at, func(a netip.AddrPort, _ time.Time) bool { return !port.Cluster.has(a) && !port.Local.has(a) })
}

// survive keeps a policy that panics from taking the datagrams of all others along.
func (p *packetServer) survive(then func()) {
	if panicked := recover(); panicked != nil {
		p.log.Errorf("a session of %s failed inside usher, please report this: %v\n%s", p.key, panicked, debug.Stack())
		then()
	}
}
