package policyroute

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// diagRequest is struct inet_diag_req_v2 of sock_diag(7).
type diagRequest [56]byte

func (r *diagRequest) Len() int          { return len(r) }
func (r *diagRequest) Serialize() []byte { return r[:] }

// sockDiagByFamily is SOCK_DIAG_BY_FAMILY.
const sockDiagByFamily = 20

// closing are the states in which a peer has not acknowledged all yet, though the
// connection is closed on this side: TCP_FIN_WAIT1, TCP_LAST_ACK and TCP_CLOSING.
const closing = 1<<4 | 1<<9 | 1<<11

// Unfinished are the own addresses of TCP connections of a family that this node has
// closed, but not everything that it has sent is acknowledged.
func Unfinished(family Family) (map[netip.AddrPort]bool, error) {
	request := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
	var body diagRequest
	body[0], body[1] = byte(domain(family)), unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], closing)
	request.AddData(&body)
	replies, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil {
		return nil, fmt.Errorf("list closed connections: %w", err)
	}
	found := map[netip.AddrPort]bool{}
	for _, m := range replies { // struct inet_diag_msg
		if len(m) < 24 {
			continue
		}
		port := binary.BigEndian.Uint16(m[4:])
		if family == IPv4 {
			found[netip.AddrPortFrom(netip.AddrFrom4([4]byte(m[8:12])), port)] = true
		} else {
			found[netip.AddrPortFrom(netip.AddrFrom16([16]byte(m[8:24])).Unmap(), port)] = true
		}
	}
	return found, nil
}
