package policyroute

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// protocolNumber says on rules and routes who made them (ip rule, ip route: proto).
// No program that is listed in rt_protos of iproute2 uses it.
const protocolNumber = 118

// ErrUnsupported says that this kernel has no policy routing.
var ErrUnsupported = errors.New("this kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES) or not this address family")

// kernel is what is needed of rtnetlink(7).
type kernel interface {
	rules(Family) (map[rule]bool, error)
	addRule(Family, rule) error
	deleteRule(Family, rule) error
	routes(Family) (map[place]way, error)
	setRoutes(Family, iter.Seq2[place, way]) error
	deleteRoutes(Family, iter.Seq2[place, way]) error
	proxies(Family) (map[proxied]bool, error)
	addProxy(proxied) error
	deleteProxy(proxied) error
}

// socket is a kernel by a socket of its own.
type socket struct {
	*netlink.Handle
	writes int    // a socket for everything that is written
	port   uint32 // its address, which tells our writes from those of others
	lo     int    // index of the loopback interface
}

func openSocket() (*socket, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	// So that the kernel itself picks our routes out of all. One that is older than
	// Linux 4.20 sends them all.
	handle.SetStrictCheck(true)
	lo, err := handle.LinkByName("lo")
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("find the loopback interface: %w", err)
	}
	writes, port, err := openWrites()
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	return &socket{handle, writes, port, lo.Attrs().Index}, nil
}

func openWrites() (fd int, port uint32, err error) {
	if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE); err != nil {
		return 0, 0, err
	}
	// Answers do not repeat what was asked; older kernels do.
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return 0, 0, err
	}
	return fd, name.(*unix.SockaddrNetlink).Pid, nil
}

func (s *socket) close() {
	s.Close()
	unix.Close(s.writes)
}

func domain(family Family) int {
	if family == IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (s *socket) rules(family Family) (map[rule]bool, error) {
	// A strict kernel refuses how the library asks for rules, so not by the handle.
	list, err := whole(func() ([]netlink.Rule, error) { return netlink.RuleList(domain(family)) })
	if err != nil {
		return nil, fmt.Errorf("list IPv%d policy routing rules: %w", family, explain(err))
	}
	found := map[rule]bool{}
	for _, r := range list {
		if r.Protocol == protocolNumber {
			found[fromNetlink(r)] = true
		}
	}
	return found, nil
}

func fromNetlink(r netlink.Rule) rule {
	to := rule{priority: r.Priority, protocol: uint8(r.IPProto), table: max(r.Table, 0), goTo: max(r.Goto, 0)}
	if r.Dst != nil {
		addr, _ := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		to.to = netip.PrefixFrom(addr.Unmap(), ones)
	}
	if r.Dport != nil {
		to.first, to.last = r.Dport.Start, r.Dport.End
	}
	return to
}

func (s *socket) addRule(family Family, r rule) error {
	err := s.ask(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r.message(family)...)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the IPv%d policy routing rule %v: %w", family, r, explain(err))
	}
	return nil
}

func (s *socket) deleteRule(family Family, r rule) error {
	err := s.ask(unix.RTM_DELRULE, 0, r.message(family)...)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the IPv%d policy routing rule %v: %w", family, r, explain(err))
	}
	return nil
}

// message is the body of a request: struct fib_rule_hdr, which is laid out like struct
// rtmsg, and attributes (linux/fib_rules.h).
func (r rule) message(family Family) []nl.NetlinkRequestData {
	header := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(domain(family)), Type: nl.FR_ACT_NOP}}
	body := []nl.NetlinkRequestData{
		header,
		nl.NewRtAttr(nl.FRA_PRIORITY, nl.Uint32Attr(uint32(r.priority))),
		nl.NewRtAttr(nl.FRA_PROTOCOL, nl.Uint8Attr(protocolNumber)),
	}
	add := func(kind int, value []byte) { body = append(body, nl.NewRtAttr(kind, value)) }
	if r.to.IsValid() {
		header.Dst_len = uint8(r.to.Bits())
		add(nl.FRA_DST, r.to.Addr().AsSlice())
	}
	if r.protocol != 0 {
		add(nl.FRA_IP_PROTO, nl.Uint8Attr(r.protocol))
	}
	if r.last != 0 {
		add(nl.FRA_DPORT_RANGE, binary.NativeEndian.AppendUint16(nl.Uint16Attr(r.first), r.last))
	}
	switch {
	case r.goTo != 0:
		header.Type = nl.FR_ACT_GOTO
		add(nl.FRA_GOTO, nl.Uint32Attr(uint32(r.goTo)))
	case r.table != 0:
		header.Type = nl.FR_ACT_TO_TBL
		add(nl.FRA_TABLE, nl.Uint32Attr(uint32(r.table)))
	}
	return body
}

func (s *socket) routes(family Family) (map[place]way, error) {
	found := map[place]way{}
	_, err := whole(func() (none []struct{}, err error) {
		clear(found)
		filter := &netlink.Route{Protocol: protocolNumber} // of all tables
		return nil, s.RouteListFilteredIter(domain(family), filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if at, to, ok := s.fromRoute(r); ok {
				found[at] = to
			}
			return true
		})
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // no such table yet
		return nil, fmt.Errorf("list IPv%d routes: %w", family, explain(err))
	}
	return found, nil
}

// fromRoute leaves out routes that no plan has.
func (s *socket) fromRoute(r netlink.Route) (at place, to way, ok bool) {
	if r.Dst == nil {
		return at, to, false
	}
	dst, _ := netip.AddrFromSlice(r.Dst.IP)
	dst = dst.Unmap()
	ones, _ := r.Dst.Mask.Size()
	if ones != dst.BitLen() || !ours(place{r.Table, dst}) {
		return at, to, false
	}
	to = way{kind: uint8(r.Type), iface: r.LinkIndex}
	if to.iface == s.lo || to.kind == unix.RTN_UNREACHABLE { // IPv6 puts lo there
		to.iface = 0
	}
	if src, ok := netip.AddrFromSlice(r.Src); ok {
		to.src = src.Unmap()
	}
	return place{r.Table, dst}, to, true
}

// ours says whether a plan may have a route there.
func ours(at place) bool {
	return at.table >= firstTable && at.table <= lastTable || at.table == unix.RT_TABLE_LOCAL ||
		at.table == unix.RT_TABLE_MAIN && at.dst == dummyAddr
}

// explain adds to an error of the kernel what to do about it.
func explain(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case unix.EPERM, unix.EACCES:
		return fmt.Errorf("%w (CAP_NET_ADMIN is needed)", err)
	case unix.EOPNOTSUPP, unix.EAFNOSUPPORT:
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

// whole lists again if something has changed meanwhile, within reason.
func whole[T any](list func() ([]T, error)) (items []T, err error) {
	for range 3 {
		items, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return items, err
}

// String is what ip rule would show of it.
func (r rule) String() string {
	text := fmt.Sprintf("%d: from all", r.priority)
	if r.to.IsValid() {
		text += " to " + r.to.String()
	}
	switch r.protocol {
	case 0:
	case unix.IPPROTO_TCP:
		text += " ipproto tcp"
	case unix.IPPROTO_UDP:
		text += " ipproto udp"
	default:
		text += fmt.Sprintf(" ipproto %d", r.protocol)
	}
	switch {
	case r.last == 0:
	case r.first == r.last:
		text += fmt.Sprintf(" dport %d", r.first)
	default:
		text += fmt.Sprintf(" dport %d-%d", r.first, r.last)
	}
	switch {
	case r.goTo != 0:
		return text + fmt.Sprintf(" goto %d", r.goTo)
	case r.table != 0:
		return text + fmt.Sprintf(" lookup %d", r.table)
	}
	return text + " nop"
}
