package udp

import (
	"errors"
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// Server decides for the clients of a Socket, and is told what becomes of them.
// Loops call it, several at once; it must not block. It is not to be changed:
// when something else holds, the Socket gets another one (Socket.Serve). Two of
// them are compared with ==.
type Server interface {
	// Route returns where the datagrams of a client go. local is the address of
	// ours that they came to. The endpoints in tried have refused them. The error
	// is a *Refusal if nobody is to have them.
	Route(client, local netip.AddrPort, tried []netip.AddrPort) (Route, error)
	// Keeps tells whether a Route that an earlier Server of the Socket has
	// returned still holds.
	Keeps(Route) bool
	// Opened tells of a session. Each is told once, and once it is Closed.
	Opened()
	Closed(Session)
	// Refused tells, at once and once in a session, that the endpoint of its Route has
	// refused a datagram of it or of another session.
	Refused(Route, error)
	// Datagrams counts what has come from clients and what has gone to them.
	Datagrams(in, bytesIn, out, bytesOut int)
	// Dropped counts datagrams that were not passed on.
	Dropped(cause observe.DropCause, n int)
}

// Route is where the datagrams of a client go.
type Route struct {
	To netip.AddrPort // the endpoint
	// From is the address that the endpoint is to see as the client's; the zero
	// Addr: one of the node's.
	From netip.Addr
	// Of is whatever the Server wants to know of it later.
	Of any `json:"-"`
	// Unused is called if no session came of it, and says why. It may be nil.
	Unused func(error) `json:"-"`
}

// Refusal is why a client's datagrams go nowhere.
type Refusal struct{ Cause observe.DropCause }

func (r *Refusal) Error() string { return "not passed on: " + r.Cause.String() }

// isNoEndpoint tells whether nobody is there, or nobody but those tried.
func isNoEndpoint(err error) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Cause == observe.DropNoEndpoint
}

// Session is the story of one session: of the datagrams between one client and
// one endpoint.
type Session struct {
	Client, Local netip.AddrPort // Local is the address of ours that the client sends to
	Route         Route
	LocalPort     uint16 // our port towards the endpoint
	Start         time.Time
	FirstReply    time.Duration // since Start, -1: there was none
	// Tried are endpoints that had refused the client's datagrams before.
	Tried []netip.AddrPort

	In, Out, BytesIn, BytesOut int64 // In is from the client
	// Dropped are those that could not be sent on, in either direction.
	Dropped int64

	Reason observe.Reason
	Err    error `json:"-"` // of the kernel, if it had one
}
