package proxier

import (
	"context"
	"net/netip"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// capture makes the connections to a Port's frontends arrive at its listener.
// Only the reconcile loop calls it, except for destination.
type capture interface {
	// String names it as --capture does.
	String() string
	// families are those that it serves.
	families() []Family
	// sockets returns the sockets that port is to be served on: of those it
	// has, the ones that stay, and new ones, which open opens. Frontends that
	// cannot be had are errors; the others are served all the same.
	sockets(port *Port, have []*socket, open opener, node *nodeState) ([]*socket, []error)
	// answer is what clients that connect to a socket of port get.
	answer(port *Port, s *socket, node *nodeState) answer
	// apply makes the kernel send every frontend of the served Ports to their
	// sockets, and nothing else. It does nothing if nothing has changed since the
	// last time, unless verify asks to look at what is really there. A family that
	// fails is returned with its error: for it, what was there before is still in
	// force, and the next pass tries again from the full state.
	apply(ctx context.Context, served []*listener, node *nodeState, verify bool) map[Family]error
	// changed tells cheaply whether somebody else may have changed what apply has put
	// there, since apply, or since it was asked last.
	changed() bool
	// expected is what apply has last wanted to be in the kernel, for people to read.
	expected() []admin.CapturedBy
	// differences is what of that is not there, and what is there beyond it.
	differences(ctx context.Context) ([]admin.RuleDifference, error)
	// trail is what leads clients that dial vip, by a frontend of the listener, to the
	// socket of a Set, if they are of that kind.
	trail(ctx context.Context, l *listener, f Frontend, vip netip.AddrPort, set Set, from clientKind) (trail, error)
	// rules counts the iptables rules of a family, by table.
	rules(Family) map[string]int
	// redirected are those ports of ours that datagrams to a frontend of the listener are
	// sent to; none: they arrive as they are, if captured.
	redirected(l *listener, f Frontend) (ports []uint16, captured bool)
	// released tells that a socket has been closed.
	released(netip.AddrPort)
	// own are the ports on which direct connections are not welcome.
	own() map[uint16]bool
	// destination is the address that the client of an accepted connection has
	// dialled; local is where it was accepted. It is safe for concurrent use.
	destination(client *tcp.Conn, local netip.AddrPort) (netip.AddrPort, error)
	// stop leads no new connection here any more. Those that exist go on.
	stop(ctx context.Context) error
	// remove takes everything out of the kernel that apply has put there.
	remove(ctx context.Context) error
}

// trail is what is to be in the kernel for a client to arrive, as its own programs print
// it, and what of that is not there. Without lines, nothing is needed.
type trail struct{ lines, missing []string }
