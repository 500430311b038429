package balancer

import (
	"errors"
	"net/netip"
	"time"
)

// ErrNoEndpoints says that nothing is left to pick: the set is empty, or every
// endpoint of it was tried. Asking again for the same request is pointless.
var ErrNoEndpoints = errors.New("no endpoint left to pick")

// Endpoint is one address that a connection may be sent to.
type Endpoint struct {
	Addr netip.AddrPort
	Pod  string // namespace/name of the pod behind it, empty if unknown
	Node string // name of the node it runs on, empty if unknown
	Zone string // topology zone of that node, empty if unknown
	// Weight is its share relative to that of the others. Less than 1 counts as 1,
	// more than 100,000 as 100,000.
	Weight int
}

// Request is what a Picker may base its choice on.
type Request struct {
	// Client is the address of the client as this node sees it.
	Client netip.Addr
	// Tried are the endpoints that already failed for this connection.
	// None of them may be picked again. The slice is the caller's again after Pick.
	Tried []netip.AddrPort
}

// Outcome is what became of a pick.
type Outcome struct {
	// Err is why the endpoint could not be connected to. It is nil if it could, and
	// if that it was not connected to says nothing of it: the fault was this
	// process's own, or another attempt was faster.
	Err error
	// Connect is the time that the attempt took, 0 if it says nothing of the
	// endpoint.
	Connect time.Duration
}

// Pick is one choice of a Picker.
type Pick struct {
	Endpoint Endpoint
	// Done is called exactly once when the connection has ended or could not
	// be made. It may be nil. It must not block.
	Done func(Outcome)
	// Answered is called at most once, before Done, when the endpoint sends its
	// first byte: with the time that it took to connect, and from then, or from the
	// client's first byte if that came later, to this one. It may be nil. It must
	// not block.
	Answered func(time.Duration)
	// Affinity is what session affinity had to do with it. Only the Pickers of
	// an Affinity set it.
	Affinity AffinityResult
}

// Picker chooses among a fixed set of endpoints. It is safe for concurrent
// use; Pick takes no lock and never blocks.
type Picker interface {
	// Pick returns an endpoint of the set that is not in Request.Tried, or
	// ErrNoEndpoints.
	Pick(Request) (Pick, error)
}

// Policy makes Pickers for one Service port. What has to outlive a change of
// the endpoints (a rotation, say) belongs to the Policy; a Picker is a
// snapshot.
type Policy interface {
	// Picker returns a Picker for these endpoints. The slice is never changed
	// afterwards by either side. Picker is called from one goroutine at a time,
	// while older Pickers of the same Policy may still be in use.
	Picker(endpoints []Endpoint) Picker
}
