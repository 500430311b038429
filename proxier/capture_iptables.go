package proxier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

// errRangeFull says that --proxy-port-range has no port left.
var errRangeFull = errors.New("no free port is left in --proxy-port-range")

// redirect is the capture by iptables REDIRECT rules: one socket for all
// frontends of a Port, on a port of the range.
type redirect struct {
	log    logrus.FieldLogger
	tables map[Family]*iptables.Table
	ports  map[Family]*portTable
	mark   iptables.Mark
	// applied is what each family's table is known to hold, nil if nothing is.
	applied map[Family]*iptables.Rules
	// nodeIPs are the addresses that the Node object tells, best first.
	nodeIPs func() []netip.Addr
}

// newRedirect finds out what iptables can do here, and which ports our
// predecessor used. It needs IPv4 at least.
func newRedirect(ctx context.Context, cfg *Config, nodeIPs func() []netip.Addr) (*redirect, error) {
	r := &redirect{
		log: cfg.Log, mark: cfg.Mark, nodeIPs: nodeIPs,
		tables: map[Family]*iptables.Table{}, ports: map[Family]*portTable{}, applied: map[Family]*iptables.Rules{},
	}
	for _, family := range []Family{IPv4, IPv6} {
		table, err := iptables.New(iptables.Family(family))
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

func (r *redirect) addFamily(ctx context.Context, family Family, table *iptables.Table, ports PortRange) error {
	last, err := table.Assigned(ctx)
	if err != nil {
		return fmt.Errorf("read the rules of a former usher: %w", err)
	}
	r.warnOfForeignMarks(ctx, table)
	r.tables[family] = table
	r.ports[family] = newPortTable(ports, last)
	return nil
}

func (r *redirect) warnOfForeignMarks(ctx context.Context, table *iptables.Table) {
	rules, err := table.ForeignMarks(ctx, r.mark)
	if err != nil {
		r.log.WithError(err).Warn("cannot look for rules of others that use usher's packet mark")
	}
	for _, rule := range rules {
		r.log.WithField("rule", rule).Warnf("a rule of somebody else uses bits of usher's packet mark %#x: choose others with --mark", r.mark.Mask)
	}
}

func (r *redirect) String() string { return "iptables" }

// ruleKey is what the rules of a ServicePort are known by.
func ruleKey(s ServicePort) iptables.Key {
	return iptables.Key{Name: s.String(), Protocol: iptables.Protocol(s.Protocol)}
}

func (r *redirect) sockets(port *Port, have []*socket) ([]*socket, []error) {
	if len(have) > 0 && !isNodePort(port, have[0].addr.Port()) {
		return have, nil
	}
	ports := r.ports[port.Family]
	if ports == nil {
		return nil, []error{fmt.Errorf("%s is not available on this node", port.Family)}
	}
	for candidate := range ports.candidates(ruleKey(port.ServicePort)) {
		if isNodePort(port, candidate) {
			continue
		}
		s, err := openSocket(netip.AddrPortFrom(port.Family.wildcard(), candidate))
		switch {
		case err == nil:
			ports.take(candidate, ruleKey(port.ServicePort))
			return []*socket{s}, nil
		case !errors.Is(err, unix.EADDRINUSE):
			return nil, []error{err}
		}
	}
	return nil, []error{fmt.Errorf("%w (%s)", errRangeFull, ports.PortRange)}
}

// isNodePort: a redirection from a port to itself would be none, and be refused
// as a direct connection.
func isNodePort(port *Port, number uint16) bool {
	return slices.Contains(port.Frontends, Frontend{Kind: NodePort, Port: number})
}

func (r *redirect) released(s *socket) {
	r.ports[familyOf(s.addr.Addr())].release(s.addr.Port())
}

func (r *redirect) own() map[uint16]bool {
	own := map[uint16]bool{}
	for _, ports := range r.ports {
		for port := range ports.owners {
			own[port] = true
		}
	}
	return own
}

func (r *redirect) apply(ctx context.Context, served []*listener, node nodeAddresses, verify bool) map[Family]error {
	failed := map[Family]error{}
	for family, table := range r.tables {
		rules := r.rules(family, served, node)
		if !verify && reflect.DeepEqual(r.applied[family], &rules) {
			continue
		}
		r.applied[family] = nil
		if err := table.Sync(ctx, rules); err != nil {
			failed[family] = err
			continue
		}
		r.applied[family] = &rules
		r.ports[family].forgetLast()
	}
	return failed
}

func (r *redirect) rules(family Family, served []*listener, node nodeAddresses) iptables.Rules {
	rules := iptables.Rules{Mark: r.mark}
	for _, l := range served {
		if l.key.Family != family || len(l.sockets) == 0 {
			continue
		}
		for _, f := range l.current.Load().port.Frontends {
			rules.Redirects = append(rules.Redirects, iptables.Redirect{
				Name:     l.key.ServicePort.String(),
				Protocol: iptables.Protocol(l.key.Protocol),
				Addr:     f.Addr,
				Port:     f.Port,
				To:       l.sockets[0].addr.Port(),
			})
		}
	}
	var others bool
	if rules.Numbered, others = node.numbered(family); others {
		rules.NodeAddr = node.primary(family, r.nodeIPs())
	}
	return rules
}

func (r *redirect) remove(ctx context.Context) error {
	var errs []error
	for _, table := range r.tables {
		errs = append(errs, table.Cleanup(ctx))
	}
	return errors.Join(errs...)
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST of netfilter.
const soOriginalDst = 80

// destination asks conntrack for the address before the redirection. Without
// one, conntrack tells the address of the listener itself, which is no frontend,
// or nothing.
func (r *redirect) destination(conn *net.TCPConn) (dst netip.AddrPort, err error) {
	local := addrPort(conn.LocalAddr())
	raw, err := conn.SyscallConn()
	if err != nil {
		return dst, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			dst, err = originalDst4(int(fd))
		} else {
			dst, err = originalDst6(int(fd))
		}
	})
	return dst, errors.Join(controlErr, os.NewSyscallError("getsockopt SO_ORIGINAL_DST", err))
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
