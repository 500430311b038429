package proxier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// errRangeFull says that --proxy-port-range has no port left.
var errRangeFull = errors.New("no free port is left in --proxy-port-range")

// redirect is the capture by iptables REDIRECT rules: one socket, on a port of the
// range, for all frontends of a TCP Port, and one for each frontend of a UDP Port.
type redirect struct {
	pollers     *tcp.Pollers
	log         logrus.FieldLogger
	tables      map[Family]*iptables.Table
	ports       map[Family]*portTable
	mark        iptables.Mark
	source      *clientSource
	inheritance func() *Inheritance
	// applied is what each family's table is known to hold, nil if nothing is.
	applied map[Family]*iptables.Rules
	// last is what apply has rendered last, whether it could be written or not.
	last map[Family]iptables.Rules
	// rendered are the redirects of each listener, as of a pass.
	rendered map[*listener]*rendered
	pass     uint64
	// ownPorts is what own has told; nil: it has changed since.
	ownPorts map[uint16]bool
	drift    drift
	// denied answers nobody: for clients outside of loadBalancerSourceRanges.
	denied map[Family]*streamSocket
}

// newRedirect finds out what iptables can do here, and which ports our
// predecessor used. It needs IPv4 at least.
func newRedirect(ctx context.Context, cfg *Config, source *clientSource, pollers *tcp.Pollers, inheritance func() *Inheritance) (*redirect, error) {
	r := &redirect{
		pollers: pollers,
		log:     cfg.Log, mark: cfg.Mark, source: source, last: map[Family]iptables.Rules{}, denied: map[Family]*streamSocket{},
		inheritance: inheritance, tables: map[Family]*iptables.Table{}, ports: map[Family]*portTable{}, applied: map[Family]*iptables.Rules{},
		rendered: map[*listener]*rendered{},
	}
	if cfg.tables == nil {
		cfg.tables = findTables(inheritance())
	}
	found := cfg.tables()
	for _, family := range []Family{IPv4, IPv6} {
		table, err := found[family].table, found[family].err
		if err == nil {
			err = r.addFamily(ctx, family, table, cfg.ProxyPortRange)
		}
		switch {
		case err != nil && (family == IPv4 || !errors.Is(err, iptables.ErrUnavailable)):
			return nil, err
		case err != nil:
			r.log.WithError(err).Warn("IPv6 is not served: ip6tables cannot be used")
		}
	}
	return r, nil
}

// foundTable is a Table, or why there is none.
type foundTable struct {
	table *iptables.Table
	err   error
}

// findTables begins to find those of both families, which takes some programs each, and
// returns what waits for them. h, if not nil, tells of those that work.
func findTables(h *Inheritance) (wait func() map[Family]foundTable) {
	var finding sync.WaitGroup
	var tables [2]foundTable
	for i, family := range []Family{IPv4, IPv6} {
		var options []iptables.Option
		if h.had(family) {
			options = append(options, iptables.Proven())
		}
		finding.Go(func() { tables[i].table, tables[i].err = iptables.New(iptables.Family(family), options...) })
	}
	return func() map[Family]foundTable {
		finding.Wait()
		return map[Family]foundTable{IPv4: tables[0], IPv6: tables[1]}
	}
}

func (r *redirect) addFamily(ctx context.Context, family Family, table *iptables.Table, ports PortRange) (err error) {
	last := r.inheritance().ruleKeys(family) // what is listened on counts, and clients wait
	if last == nil {
		if last, err = table.Assigned(ctx); err != nil {
			return fmt.Errorf("read the rules of a former usher: %w", err)
		}
		r.warnOfForeignMarks(ctx, table)
	}
	r.tables[family] = table
	r.ports[family] = newPortTable(ports, last)
	return nil
}

func (r *redirect) warnOfForeignMarks(ctx context.Context, table *iptables.Table) {
	for flag, mark := range map[string]iptables.Mark{"--mark": r.mark, "--return-mark": r.source.mark} {
		if mark == (iptables.Mark{}) {
			continue
		}
		rules, err := table.ForeignMarks(ctx, mark)
		if err != nil {
			r.log.WithError(err).Warn("cannot look for rules of others that use usher's packet marks")
		}
		for _, rule := range rules {
			r.log.WithField("rule", rule).Warnf("a rule of somebody else uses bits of usher's packet mark %#x: choose others with %s", mark.Mask, flag)
		}
	}
}

func (r *redirect) String() string { return "iptables" }

func (r *redirect) families() []Family { return slices.Sorted(maps.Keys(r.tables)) }

// destination is whose clients arrive at one socket.
type destination struct {
	set      Set
	frontend Frontend // of UDP only
}

// ruleKey is what the rules that lead to one socket are known by.
func ruleKey(s ServicePort, to destination) iptables.Key {
	name := s.String()
	switch f := to.frontend; {
	case f.Kind == NodePort:
		name += fmt.Sprintf("/%d", f.Port)
	case f != Frontend{}:
		name += fmt.Sprintf("/%s:%d", f.Addr, f.Port)
	}
	if to.set == LocalSet {
		name += "/local"
	}
	return iptables.Key{Name: name, Protocol: iptables.Protocol(s.Protocol)}
}

// deniedKey is what the rules for clients outside of loadBalancerSourceRanges
// are known by: they all lead to one socket that is silent.
var deniedKey = iptables.Key{Name: "loadBalancerSourceRanges", Protocol: iptables.TCP}

func (r *redirect) sockets(port *Port, have []*socket, open opener, _ *nodeState) (sockets []*socket, errs []error) {
	for _, to := range destinations(port) {
		i := slices.IndexFunc(have, func(s *socket) bool { return s.destination() == to && !isNodePort(port, s.addr.Port()) })
		if i >= 0 {
			sockets = append(sockets, have[i])
			continue
		}
		s, err := r.open(port, to, open)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sockets = append(sockets, s)
	}
	if silences(port) {
		if err := r.openDenied(port.Family); err != nil {
			errs = append(errs, err)
		}
	}
	return sockets, errs
}

// maxSourceRules bounds the rules of a frontend. Where there are more, everybody
// gets an answer, and who may not have it a reset.
const maxSourceRules = 250

// silences says whether clients outside of a Port's source ranges get silence by
// rules. A UDP socket has clients of one frontend only, and is itself silent.
func silences(port *Port) bool {
	return port.Protocol == tcpProtocol && len(port.SourceRanges) > 0 && len(port.SourceRanges) <= maxSourceRules &&
		slices.ContainsFunc(port.Frontends, func(f Frontend) bool { return f.Kind == LoadBalancer })
}

// destinations are those that the frontends of a Port lead to.
func destinations(port *Port) (list []destination) {
	for _, f := range port.Frontends {
		for _, set := range []Set{f.Policy.set(true), f.Policy.set(false)} {
			if to := destinationOf(port, f, set); !slices.Contains(list, to) {
				list = append(list, to)
			}
		}
	}
	return list
}

// destinationOf is where the clients of a frontend go that get a Set.
func destinationOf(port *Port, f Frontend, set Set) destination {
	if port.Protocol != udpProtocol {
		return destination{set: set}
	}
	f.Policy = "" // that may change
	return destination{set, f}
}

func (s *socket) destination() destination { return destination{s.set, s.frontend} }

func (r *redirect) open(port *Port, to destination, open opener) (*socket, error) {
	var s *socket
	err := r.openFor(port.Family, ruleKey(port.ServicePort, to), func(addr netip.AddrPort) (err error) {
		if isNodePort(port, addr.Port()) {
			return unix.EADDRINUSE
		}
		s, err = open(addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.set, s.frontend = to.set, to.frontend
	return s, nil
}

// openFor opens something on the best port of the range that is to be had. open
// fails with EADDRINUSE where another port may do.
func (r *redirect) openFor(family Family, key iptables.Key, open func(netip.AddrPort) error) error {
	ports := r.ports[family]
	if ports == nil {
		return fmt.Errorf("%s is not available on this node", family)
	}
	for candidate := range ports.candidates(key) {
		err := open(netip.AddrPortFrom(family.wildcard(), candidate))
		switch {
		case err == nil:
			ports.take(candidate, key)
			r.ownPorts = nil
			return nil
		case !errors.Is(err, unix.EADDRINUSE):
			return err
		}
	}
	return fmt.Errorf("%w (%s)", errRangeFull, ports.PortRange)
}

func (r *redirect) answer(port *Port, s *socket, _ *nodeState) answer {
	a := port.eligible(s.set).answer()
	if s.frontend.Kind == LoadBalancer {
		a = a.limitTo(port.SourceRanges)
	}
	return a
}

// isNodePort: a redirection from a port to itself would be none, and be refused
// as a direct connection.
func isNodePort(port *Port, number uint16) bool {
	return slices.ContainsFunc(port.Frontends, func(f Frontend) bool { return f.Kind == NodePort && f.Port == number })
}

func (r *redirect) released(addr netip.AddrPort) {
	r.ports[familyOf(addr.Addr())].release(addr.Port())
	r.ownPorts = nil
}

func (r *redirect) own() map[uint16]bool {
	if r.ownPorts != nil {
		return r.ownPorts
	}
	own := map[uint16]bool{}
	for _, ports := range r.ports {
		for port := range ports.owners {
			own[port] = true
		}
	}
	r.ownPorts = own
	return own
}

func (r *redirect) apply(ctx context.Context, served []*listener, node *nodeState, verify bool) map[Family]error {
	failed := map[Family]error{}
	r.notice()
	if r.drift.certain && !r.drift.foreign {
		verify = false // nobody has written anything
	}
	changed := r.render(served)
	for family, table := range r.tables {
		rules := r.around(family, node)
		rules.Returning = r.returning(ctx, family, table, verify)
		known := r.applied[family]
		if known != nil && !changed[family] {
			rules.Redirects = known.Redirects
		} else {
			rules.Redirects = r.all(family, served)
		}
		same := known != nil && !changed[family] && sameAround(*known, rules)
		if same && !verify {
			continue
		}
		r.applied[family], r.last[family] = nil, rules
		if err := r.write(ctx, family, rules, verify, same); err != nil {
			failed[family] = err
			continue
		}
		r.applied[family] = &rules
		r.source.written(family, rules.Returning)
		r.ports[family].forgetLast()
	}
	if verify && len(failed) == 0 {
		r.drift.foreign = false
	}
	r.noticeFromNow()
	return failed
}

// write makes a table what the rules say. If they are the same as before, whatever
// is different in the kernel is by somebody else.
func (r *redirect) write(ctx context.Context, family Family, rules iptables.Rules, verify, same bool) error {
	if !verify {
		return r.tables[family].Sync(ctx, rules)
	}
	different, err := r.tables[family].Verify(ctx, rules)
	if same && len(different) > 0 {
		r.log.WithField("family", family).WithError(err).Warnf("somebody else has changed usher's rules, writing them again: %s", sumUp(different))
	}
	return err
}

// maxTold is how many differences the log tells one by one.
const maxTold = 5

func sumUp[T any](different []T) string {
	var b strings.Builder
	for i, d := range different[:min(maxTold, len(different))] {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprint(&b, d)
	}
	if more := len(different) - maxTold; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// sameAround compares rules but for their redirects.
func sameAround(a, b iptables.Rules) bool {
	a.Redirects, b.Redirects = nil, nil
	return reflect.DeepEqual(a, b)
}

// returning is the mark for replies to our connections from clients' addresses.
// What it needs is looked at again with verify.
func (r *redirect) returning(ctx context.Context, family Family, table *iptables.Table, verify bool) iptables.Mark {
	if now := r.applied[family]; now != nil && !verify {
		return now.Returning
	}
	return r.source.ensure(ctx, family, table)
}

// around are the rules of a family without redirects.
func (r *redirect) around(family Family, node *nodeState) iptables.Rules {
	rules := iptables.Rules{
		Mark:          r.mark,
		Pods:          node.clients.matchers(family),
		NodePortsOn:   node.nodePorts.prefixes(family, node.named(family)),
		NotOnLoopback: node.nodePorts.NotLocalhost,
		Open:          node.open,
	}
	var others bool
	if rules.Numbered, others = node.addresses.numbered(family); others {
		rules.NodeAddr = node.primary(family)
	}
	return rules
}

// rendered are the redirects of one listener, and what they were made of. Most
// passes change few listeners, so they are kept.
type rendered struct {
	port      *Port
	sockets   []*socket
	denied    *streamSocket
	redirects []iptables.Redirect
	pass      uint64 // the last one that the listener was served in
}

// isOf says whether the redirects are those of the listener as it is now.
func (d *rendered) isOf(l *listener, port *Port, denied *streamSocket) bool {
	same := port == d.port || slices.Equal(port.Frontends, d.port.Frontends) && slices.Equal(port.SourceRanges, d.port.SourceRanges)
	return same && slices.Equal(l.sockets, d.sockets) && denied == d.denied
}

// render brings the redirects of all listeners up to date, and tells in which
// families that changed anything.
func (r *redirect) render(served []*listener) map[Family]bool {
	changed := map[Family]bool{}
	r.pass++
	for _, l := range served {
		port, denied := l.current.Load().port, r.denied[l.key.Family]
		d := r.rendered[l]
		if d == nil || !d.isOf(l, port, denied) {
			d = &rendered{sockets: slices.Clone(l.sockets), denied: denied}
			for _, f := range port.Frontends {
				d.redirects = append(d.redirects, r.redirects(l, f)...)
			}
			r.rendered[l] = d
			changed[l.key.Family] = true
		}
		d.port, d.pass = port, r.pass
	}
	if len(r.rendered) > len(served) {
		maps.DeleteFunc(r.rendered, func(l *listener, d *rendered) bool {
			gone := d.pass != r.pass
			changed[l.key.Family] = changed[l.key.Family] || gone
			return gone
		})
	}
	return changed
}

// all are the redirects of a family, as rendered.
func (r *redirect) all(family Family, served []*listener) (list []iptables.Redirect) {
	for _, l := range served {
		if l.key.Family == family {
			list = append(list, r.rendered[l].redirects...)
		}
	}
	return list
}

func (r *redirect) rules(family Family) map[string]int { return r.tables[family].Counts() }

// redirects are the rules of one frontend: to the socket of the Set that its
// clients get, and to the silent one for those that may not use it. A frontend
// whose socket could not be had has none.
func (r *redirect) redirects(l *listener, f Frontend) (list []iptables.Redirect) {
	port := l.current.Load().port
	restricted := f.Kind == LoadBalancer && silences(port)
	denied := r.denied[port.Family]
	if restricted && denied == nil {
		return nil
	}
	add := func(here bool, set Set) {
		to := destinationOf(port, f, set)
		i := slices.IndexFunc(l.sockets, func(s *socket) bool { return s.destination() == to })
		if i < 0 {
			return
		}
		key := ruleKey(l.key.ServicePort, to)
		d := iptables.Redirect{Name: key.Name, Protocol: key.Protocol, Addr: f.Addr, Port: f.Port, To: l.sockets[i].addr.Port(), Here: here}
		if restricted {
			d.Sources = port.SourceRanges
		}
		list = append(list, d)
	}
	if f.Policy == ExternalLocal {
		add(true, f.Policy.set(true))
	}
	add(false, f.Policy.set(false))
	if restricted {
		list = append(list, iptables.Redirect{Name: deniedKey.Name, Protocol: deniedKey.Protocol, Addr: f.Addr, Port: f.Port, To: denied.addr.Port()})
	}
	return list
}

func (r *redirect) redirected(l *listener, f Frontend) (ports []uint16, captured bool) {
	for _, s := range l.sockets {
		if to := s.destination(); to == destinationOf(l.current.Load().port, f, to.set) {
			ports = append(ports, s.addr.Port())
		}
	}
	return ports, len(ports) > 0
}

// openDenied opens the socket that never answers, when it is first needed.
func (r *redirect) openDenied(family Family) error {
	if r.denied[family] != nil {
		return nil
	}
	var s *streamSocket
	err := r.openFor(family, deniedKey, func(addr netip.AddrPort) (err error) {
		if had, fd, ok := r.inheritance().take(deniedKey.Name, addr); ok {
			s = adoptStream(fd, addr, had.Listens)
			return nil
		}
		s, err = openStream(addr)
		return err
	})
	if err == nil {
		closeAll := func(c *tcp.Conn, _ netip.AddrPort) guest { c.Close(); return nil } // none gets so far
		if err = s.give(silent, r.pollers, closeAll, func(error) {}); err != nil {
			s.close()
			r.released(s.addr)
		}
	}
	if err != nil {
		return fmt.Errorf("load balancer addresses are not served: listener for clients outside of loadBalancerSourceRanges: %w", err)
	}
	r.denied[family] = s
	return nil
}

// stop keeps what connections that exist need of the rules.
func (r *redirect) stop(ctx context.Context) error {
	var errs []error
	for family, table := range r.tables {
		if rules, ok := r.last[family]; ok {
			rules.Ending = true
			errs = append(errs, table.Sync(ctx, rules))
		}
	}
	return errors.Join(errs...)
}

func (r *redirect) remove(ctx context.Context) error {
	var errs []error
	for _, table := range r.tables {
		errs = append(errs, table.Cleanup(ctx))
	}
	for _, s := range r.denied {
		s.close()
	}
	r.denied = nil
	return errors.Join(append(errs, r.source.remove())...)
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST of netfilter.
const soOriginalDst = 80

// destination asks conntrack for the address before the redirection. Without
// one, conntrack tells the address of the listener itself, which is no frontend,
// or nothing.
func (r *redirect) destination(client *tcp.Conn, local netip.AddrPort) (dst netip.AddrPort, err error) {
	if local.Addr().Is4() {
		dst, err = originalDst4(client.FD())
	} else {
		dst, err = originalDst6(client.FD())
	}
	return dst, os.NewSyscallError("getsockopt SO_ORIGINAL_DST", err)
}

// originalDst4 reads a struct sockaddr_in through a type of the same size.
func originalDst4(fd int) (netip.AddrPort, error) {
	raw, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := raw.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), nil
}

// originalDst6 reads a struct sockaddr_in6, which IPv6MTUInfo begins with.
func originalDst6(fd int) (netip.AddrPort, error) {
	raw, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], raw.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr.Addr), binary.BigEndian.Uint16(port[:])), nil
}
