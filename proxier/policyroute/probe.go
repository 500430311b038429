package policyroute

import "net/netip"

// probeRule leads nowhere: it is for a broadcast address of the loopback network, and to
// a table without a route.
var probeRule = rule{priority: endPriority, to: netip.MustParsePrefix("127.255.255.255/32"), protocol: uint8(TCP), first: 1, last: 1, table: lastTable}

// Probe tries whether rules by protocol and port can be made, and removes what it has
// made. Without CAP_NET_ADMIN the error is os.ErrPermission; a kernel that has no policy
// routing is ErrUnsupported.
func Probe() error {
	s, err := openSocket()
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.addRule(IPv4, probeRule); err != nil {
		return err
	}
	return s.deleteRule(IPv4, probeRule)
}
