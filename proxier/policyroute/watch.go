package policyroute

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watch hears of what is written to rules, routes and addresses by others: rtnetlink(7)
// has groups for them. It is read when somebody asks, so it needs no goroutine.
type watch struct{ fd int }

// groups are what it is told of. Neighbour entries for others have none.
var groups = []int{
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
}

// newWatch does not hear of what the socket at port own writes.
func newWatch(own uint32) (*watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	program := others(own)
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	err = errors.Join(err, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})) // else it hears nothing
	for _, group := range groups {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch rules and routes: %w", err)
	}
	return &watch{fd}, nil
}

func (w *watch) close() { unix.Close(w.fd) }

// Where fields are in a message: struct nlmsghdr, and struct rtmsg behind it.
const (
	typeField     = 4
	portField     = 12
	tableField    = unix.SizeofNlMsghdr + 4
	protocolField = unix.SizeofNlMsghdr + 5
)

// others leaves out in the kernel what the socket at port own writes, which may be tens
// of thousands of routes at once, and what others do to theirs, such as a routing daemon
// with a full table. A table beyond 255 may be one of ours.
func others(own uint32) []unix.SockFilter {
	const (
		load    = unix.BPF_LD | unix.BPF_ABS
		isEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		end     = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: load | unix.BPF_W, K: portField},
		{Code: isEqual, K: asLoaded32(own), Jt: 7}, // ours: drop
		{Code: load | unix.BPF_H, K: typeField},
		{Code: isEqual, K: asLoaded16(unix.RTM_NEWROUTE), Jt: 1},
		{Code: isEqual, K: asLoaded16(unix.RTM_DELROUTE), Jf: 5}, // no route: keep
		{Code: load | unix.BPF_B, K: protocolField},
		{Code: isEqual, K: protocolNumber, Jt: 3},
		{Code: load | unix.BPF_B, K: tableField},
		{Code: isEqual, K: unix.RT_TABLE_COMPAT, Jt: 1},
		{Code: end, K: 0},
		{Code: end, K: 1<<32 - 1},
	}
}

// asLoaded32 and asLoaded16 are numbers as a filter finds them: it takes what is in the
// machine's order for big endian.
func asLoaded32(n uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n))
}

func asLoaded16(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}

// most bounds what is read at a time.
const most = 10_000

// any reads all messages that wait and says whether one matters. If some were lost, for
// want of room, or are too many, it may be that one did.
func (w *watch) any(matters func(kind uint16, body []byte) bool) (found bool, err error) {
	buffer := make([]byte, 1<<16)
	for range most {
		n, _, err := unix.Recvfrom(w.fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return found, nil
		case errors.Is(err, unix.ENOBUFS):
			found = true
			continue
		case err != nil:
			return found, fmt.Errorf("watch rules and routes: %w", err)
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			length := int(nativeUint32(rest))
			if length < unix.SizeofNlMsghdr || length > len(rest) {
				break
			}
			found = found || matters(binary.NativeEndian.Uint16(rest[typeField:]), rest[unix.SizeofNlMsghdr:length])
			rest = rest[min((length+3)&^3, len(rest)):]
		}
	}
	return true, nil
}

// Changed tells cheaply whether somebody else may have changed what the last Sync has put
// into the kernel, since then or since it was asked last. What it does not notice:
// somebody's route in place of one of ours in table local (AnyIP), and proxy_ndp.
func (r *Router) Changed() (changed bool, err error) {
	if r.watch != nil {
		changed, err = r.watch.any(r.concerns)
	}
	if r.refuser != nil && !r.refuser.works() {
		changed = true
	}
	for _, f := range r.families {
		if changed || f.there == nil || len(f.there.proxied) == 0 {
			continue
		}
		now, failed := r.kernel.proxies(f.family)
		err = errors.Join(err, failed)
		wanted := plan{proxied: f.there.proxied}
		changed = failed == nil && len(wanted.differences(plan{proxied: now})) > 0
	}
	return changed, err
}

// concerns says whether a message is about something of ours.
func (r *Router) concerns(kind uint16, body []byte) bool {
	switch kind {
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return isOurRule(body)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return isOurRoute(body)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return r.needs(kind, body)
	}
	return false
}

func isOurRule(body []byte) (ours bool) {
	if len(body) >= unix.SizeofRtMsg {
		eachAttribute(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
			ours = ours || kind == nl.FRA_PROTOCOL && len(value) == 1 && value[0] == protocolNumber
		})
	}
	return ours
}

// isOurRoute holds for whatever is in our tables: it may stand where ours was.
func isOurRoute(body []byte) bool {
	if len(body) < unix.SizeofRtMsg {
		return false
	}
	at := place{table: int(body[4])}
	eachAttribute(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch {
		case kind == unix.RTA_TABLE && len(value) == 4:
			at.table = int(nativeUint32(value))
		case kind == unix.RTA_DST:
			at.dst, _ = netip.AddrFromSlice(value)
		}
	})
	return at.table >= firstTable && at.table <= lastTable || body[5] == protocolNumber && ours(at)
}

// needs says whether routes go with an address that is removed, or it matters to what is
// announced where. The kernel does not tell of routes that go with their source address.
func (r *Router) needs(kind uint16, body []byte) (needs bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return false
	}
	family := IPv4
	if body[0] == unix.AF_INET6 {
		family = IPv6
	}
	f := r.families[family]
	eachAttribute(body[unix.SizeofIfAddrmsg:], func(attribute uint16, value []byte) {
		addr, ok := netip.AddrFromSlice(value)
		isAddr := ok && (attribute == unix.IFA_LOCAL || attribute == unix.IFA_ADDRESS)
		needs = needs || isAddr && kind == unix.RTM_DELADDR && addr == f.src && len(f.list) > 0
	})
	return needs || f.announces()
}

func (f *familyState) announces() bool {
	for _, d := range f.list {
		if d.Announced {
			return true
		}
	}
	return false
}

// eachAttribute reads attributes of rtnetlink(7), as far as they are whole.
func eachAttribute(b []byte, do func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return
		}
		do(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:length])
		b = b[min((length+3)&^3, len(b)):]
	}
}

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
