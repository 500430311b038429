package policyroute

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batchSize is how many requests the kernel gets at once. Its answers to them have to fit
// into the receive buffer of a socket (net.core.rmem_default).
const batchSize = 100

// setRoutes and deleteRoutes send many requests at once: one by one, most of the time
// would go into switching to the kernel and back.
func (s *socket) setRoutes(_ Family, routes iter.Seq2[place, way]) error {
	return s.each(routes, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "set the route to %s in table %d: %w")
}

func (s *socket) deleteRoutes(_ Family, routes iter.Seq2[place, way]) error {
	return s.each(routes, unix.RTM_DELROUTE, 0, "remove the route to %s of table %d: %w", unix.ESRCH, unix.ENODEV)
}

// each makes a request of every route. failure describes one of a place and an error;
// harmless are errors that do not count.
func (s *socket) each(routes iter.Seq2[place, way], kind, flags int, failure string, harmless ...error) error {
	var errs []error
	var batch []place
	var requests []byte
	flush := func() error {
		answers, err := s.send(requests, len(batch))
		for i, answer := range answers {
			if answer != nil && !is(answer, harmless...) {
				errs = append(errs, fmt.Errorf(failure, batch[i].dst, batch[i].table, explain(answer)))
			}
		}
		batch, requests = batch[:0], requests[:0]
		return err
	}
	for at, to := range routes {
		requests = append(requests, s.request(at, to, kind, flags, len(batch))...)
		if batch = append(batch, at); len(batch) < batchSize {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	if len(batch) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	return summary(errs)
}

func is(err error, any ...error) bool {
	for _, other := range any {
		if errors.Is(err, other) {
			return true
		}
	}
	return false
}

// request is one message of rtnetlink(7), numbered.
func (s *socket) request(at place, to way, kind, flags, number int) []byte {
	r := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	r.Seq = uint32(number)
	m := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family: uint8(domain(familyOf(at.dst))), Dst_len: uint8(at.dst.BitLen()),
		Table: unix.RT_TABLE_UNSPEC, Protocol: protocolNumber, Type: to.kind,
	}}
	iface := to.iface
	switch to.kind {
	case unix.RTN_LOCAL:
		m.Scope, iface = uint8(netlink.SCOPE_HOST), s.lo
	case unix.RTN_UNICAST:
		m.Scope = uint8(netlink.SCOPE_LINK)
	}
	r.AddData(m)
	r.AddData(nl.NewRtAttr(unix.RTA_DST, at.dst.AsSlice()))
	r.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(at.table))))
	if iface != 0 {
		r.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(iface))))
	}
	if to.src.IsValid() {
		r.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, to.src.AsSlice()))
	}
	return r.Serialize()
}

// ask makes one request.
func (s *socket) ask(kind, flags int, body ...nl.NetlinkRequestData) error {
	r := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	r.Seq = 0
	for _, part := range body {
		r.AddData(part)
	}
	answers, err := s.send(r.Serialize(), 1)
	if err != nil {
		return err
	}
	return answers[0]
}

// send gives n numbered requests to the kernel and returns its answers, nil where it has
// done what it was asked for.
func (s *socket) send(requests []byte, n int) (answers []error, err error) {
	if err := unix.Sendto(s.writes, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("write routes: %w", explain(err))
	}
	answers = make([]error, n)
	buffer := make([]byte, 1<<16)
	for waiting := n; waiting > 0; {
		size, _, err := unix.Recvfrom(s.writes, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write routes: %w", err)
		}
		for rest := buffer[:size]; len(rest) >= unix.SizeofNlMsghdr+4; waiting-- { // struct nlmsgerr
			number := binary.NativeEndian.Uint32(rest[8:])
			if code := -int32(binary.NativeEndian.Uint32(rest[unix.SizeofNlMsghdr:])); code != 0 && int(number) < n {
				answers[number] = unix.Errno(code)
			}
			length := int(binary.NativeEndian.Uint32(rest)+3) &^ 3
			if length < unix.SizeofNlMsghdr {
				break
			}
			rest = rest[min(length, len(rest)):]
		}
	}
	return answers, nil
}
