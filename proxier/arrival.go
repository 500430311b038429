package proxier

import "net/netip"

// arrival is a client at a frontend of a Port.
type arrival struct {
	frontend Frontend
	set      Set  // that it gets
	admitted bool // it may use the frontend
}

// arrive says what a client gets that has dialled vip; false if that is no frontend of
// the Port.
func (s *state) arrive(client netip.Addr, kind clientKind, vip netip.AddrPort) (a arrival, ok bool) {
	f, ok := s.frontend(vip)
	return arrival{f, f.Policy.set(kind.here()), s.port.admits(client, f)}, ok
}
