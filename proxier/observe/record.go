package observe

import (
	"net/netip"
	"time"

	"github.com/usher-proxy/usher/balancer"
)

// Attempt is one try to connect to one endpoint.
type Attempt struct {
	Backend  netip.AddrPort
	Pod      string
	Start    time.Duration // since the connection was accepted
	Duration time.Duration
	// Result is ok, or the Reason that this attempt alone would have ended with.
	Result Reason
	// Errno is the kernel's name of the error (ECONNREFUSED), empty if none.
	Errno string
	// Hedged says that it began while another attempt was still waiting for an
	// answer.
	Hedged bool
}

// Close is how one side of a connection ended.
type Close string

// The ways to end. CloseLocal: usher ended it, not the peer.
const (
	CloseNone    Close = "none"
	CloseFIN     Close = "fin"
	CloseRST     Close = "rst"
	CloseTimeout Close = "timeout"
	CloseLocal   Close = "local"
)

// udp is the Protocol of a record, or of a Service port, that is about sessions.
const udp = "udp"

// Record is the story of one connection, or of one UDP session: the datagrams
// between one client's address and port and one endpoint. One goroutine fills it
// in at a time; after Observer.Closed nobody changes it any more.
type Record struct {
	ID    string
	Node  string    // the own node
	Start time.Time // when it was accepted; of a session: its first datagram

	Namespace, Service, PortName string
	Protocol                     string // tcp or udp
	Family                       int    // 4 or 6

	Client     netip.AddrPort
	ClientKind string         // node, pod or external: where it is, seen from this node
	VIP        netip.AddrPort // what the client dialled
	VIPKind    string         // cluster, node_port, external or load_balancer
	Listener   netip.AddrPort // the local address that it was accepted on

	Backend   balancer.Endpoint // the endpoint that was connected to, zero if none
	LocalPort uint16            // our source port towards it
	Source    string            // client or node: whose address it sees
	SourceWhy string            // why it sees the node's: not_promised, off, or an obstacle (package transparent)
	Balancer  string
	Affinity  string // hit, new or broken: what session affinity had to do with the choice; empty: none
	Set       string // cluster or local: which endpoints were eligible for the client
	Eligible  int    // how many these were when it was accepted
	// ServiceActive and GlobalActive are the connections being served when it
	// was accepted, itself included: of its Service port, and in all. 0: unknown.
	ServiceActive, GlobalActive int
	// Attempts to connect, the one that succeeded is the last. A UDP session has
	// none of its own, as connecting sends nothing: there they are the endpoints
	// that had refused the client's datagrams before.
	Attempts []Attempt

	Duration time.Duration
	BytesIn  int64 // from the client
	BytesOut int64 // to the client

	// FirstReply is how long after the start the endpoint sent something first; -1
	// is never.
	FirstReply time.Duration

	Reason Reason
	Errno  string

	// Of UDP sessions only.
	DatagramsIn  int64 // passed on, from the client
	DatagramsOut int64 // passed on, to the client
	Dropped      int64 // datagrams of either direction that could not be passed on

	// Of connections only.
	Waited  time.Duration // for its turn, at a limit
	Connect time.Duration // of the attempt that succeeded, -1 if none did
	// FirstByte is when the client sent something first; -1 is never.
	FirstByte time.Duration
	// How each side ended and when, since the start; -1 is never.
	ClientClose, BackendClose     Close
	ClientCloseAt, BackendCloseAt time.Duration
	// What usher sent to each side.
	SentClient, SentBackend Close
}

// Trouble says whether the client may have missed something. That is so unless
//
//   - a connection ended with OK, or a UDP session with Idle, which is how they
//     end when nobody wants more of them;
//   - usher ended a UDP session (to make room, because its endpoint or Service
//     went, because it stopped) to which the endpoint had answered: the client's
//     next datagram just opens another session.
//
// A session of which datagrams were dropped is trouble however it ended.
func (r *Record) Trouble() bool {
	switch r.Reason {
	case OK, Idle:
		return r.Dropped > 0
	case Evicted, EndpointRemoved, ServiceRemoved, Shutdown:
		return r.Protocol != udp || !r.answered() || r.Dropped > 0
	}
	return true
}

// answered says whether a UDP session has ever had a reply.
func (r *Record) answered() bool { return r.FirstReply >= 0 }
