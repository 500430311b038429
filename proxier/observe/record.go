package observe

import (
	"math"
	"net/netip"
	"strconv"
	"time"
	"unique"

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
type Close uint8

// The ways to end. CloseLocal: something on this node destroyed the socket (ECONNABORTED,
// tcp_abort of the kernel), not the peer.
const (
	CloseNone Close = iota
	CloseFIN
	CloseRST
	CloseTimeout
	CloseLocal
)

var closes = [...]string{CloseNone: "none", CloseFIN: "fin", CloseRST: "rst", CloseTimeout: "timeout", CloseLocal: "local"}

// String is the word of the log.
func (c Close) String() string {
	if int(c) < len(closes) {
		return closes[c]
	}
	return tooMany
}

// udp is the Protocol of a record, or of a Service port, that is about sessions.
const udp = "udp"

// Record is the story of one connection, or of one UDP session: the datagrams
// between one client's address and port and one endpoint. One goroutine fills it
// in at a time; after Observer.Closed nobody changes it any more. Observer.Record
// makes it.
//
// A connection has it for as long as it lives, so that its size matters: what many
// records have in common they share, and what is only known at the end is not there
// before.
type Record struct {
	by     *Observer
	number uint64 // among those of the Observer

	*ServicePort
	Start time.Time // when it was accepted; of a session: its first datagram

	Client   netip.AddrPort
	VIP      netip.AddrPort // what the client dialled
	Listener netip.AddrPort // the local address that it was accepted on
	backend  unique.Handle[balancer.Endpoint]

	Balancer   Word
	Pick       Word   // why this endpoint: the balancer's name, or what was stronger (PickAffinityHit and so on)
	ClientKind Word   // node, pod or external: where it is, seen from this node
	VIPKind    Word   // cluster, node_port, external or load_balancer
	Source     Word   // client or node: whose address the endpoint sees
	SourceWhy  Word   // why it sees the node's: not_promised, off, or an obstacle (package transparent)
	Affinity   Word   // hit, new or broken: what session affinity had to do with the choice; empty: none
	Set        Word   // cluster or local: which endpoints were eligible for the client
	Family     uint8  // 4 or 6
	LocalPort  uint16 // our source port towards the endpoint
	// Candidates are the endpoints that there were when it was accepted, whatever their
	// state, and Eligible those of them that it might get, well or ill (Count).
	Candidates, Eligible uint16
	// ServiceActive and GlobalActive are the connections being served when it
	// was accepted, itself included: of its Service port, and in all. 0: unknown.
	ServiceActive, GlobalActive int32
	// Attempts to connect. The one that succeeded is the last, and is there at the end.
	// A UDP session has none of its own, as connecting sends nothing: there they are the
	// endpoints that had refused the client's datagrams before.
	Attempts []Attempt
	// Of connections only.
	Waited  time.Duration // for its turn, at a limit
	Connect time.Duration // of the attempt that succeeded, -1 if none did

	*Ending // nil before Record.End
}

// Ending is what is known of a record at its end.
type Ending struct {
	Duration time.Duration
	BytesIn  int64 // from the client
	BytesOut int64 // to the client

	// FirstReply is how long after the start the endpoint sent something first; -1
	// is never.
	FirstReply time.Duration

	Reason Reason
	Errno  string
	// Sockets are nil if nobody has looked at them.
	Sockets *Sockets

	// Of UDP sessions only.
	DatagramsIn  int64 // passed on, from the client
	DatagramsOut int64 // passed on, to the client
	Dropped      int64 // datagrams of either direction that could not be passed on

	// Of connections only.

	// FirstByte is when the client sent something first; -1 is never.
	FirstByte time.Duration
	// When each side ended, since the start; -1 is never.
	ClientCloseAt, BackendCloseAt time.Duration
	// How each side ended, and what usher sent to it.
	ClientClose, BackendClose Close
	SentClient, SentBackend   Close
	// During is the phase, if it is another one than most records with the Reason have.
	During Word
}

// What is stronger than a balancer, for Record.Pick: session affinity, or that nothing
// better was left.
const (
	PickAffinityHit    = "affinity_hit"
	PickAffinityBroken = "affinity_broken"
	// PickLastResort: it was ill, and all others had failed the connection.
	PickLastResort = "last_resort"
	// PickTerminating: it is on its way out, and none is ready (KEP-1669).
	PickTerminating = "fallback_terminating"
)

// Count is n as a record keeps it: 65,535 stands for more, too.
func Count(n int) uint16 { return uint16(min(max(n, 0), math.MaxUint16)) }

// Phase is when it ended: accept, pick, connect, data or drain; empty before.
func (r *Record) Phase() string {
	switch {
	case r.Ending == nil:
		return ""
	case r.During != 0:
		return r.During.String()
	case r.Protocol == udp && r.Reason.Phase() == "connect":
		return "data" // connecting sends nothing
	}
	return r.Reason.Phase()
}

// End has the record tell of its end from now on.
func (r *Record) End() {
	if r.Ending == nil {
		r.Ending = &Ending{FirstByte: -1, FirstReply: -1, ClientCloseAt: -1, BackendCloseAt: -1}
	}
}

// ID tells the record apart from all others of the node.
func (r *Record) ID() string { return string(r.appendID(nil)) }

func (r *Record) appendID(b []byte) []byte {
	b = strconv.AppendInt(b, r.by.boot, 16)
	return strconv.AppendUint(append(b, '-'), r.number, 10)
}

// Node is the own node.
func (r *Record) Node() string { return r.by.node }

// Backend is the endpoint that was connected to, the zero Endpoint if there is none.
func (r *Record) Backend() balancer.Endpoint {
	if r.hasBackend() {
		return r.backend.Value()
	}
	return balancer.Endpoint{}
}

// SetBackend sets the endpoint that was connected to.
func (r *Record) SetBackend(e balancer.Endpoint) {
	r.backend = unique.Handle[balancer.Endpoint]{}
	if e.Addr.IsValid() {
		r.backend = unique.Make(e)
	}
}

// Trouble says whether the client may have missed something. That is so unless
//
//   - a connection ended with OK, or a UDP session with Idle, which is how they
//     end when nobody wants more of them;
//   - usher ended a UDP session (to make room, because its endpoint or Service
//     went, because it stopped) to which the endpoint had answered: the client's
//     next datagram just opens another session.
//
// A session of which datagrams were dropped is trouble however it ended. What has not ended
// is none yet.
func (r *Record) Trouble() bool {
	if r.Ending == nil {
		return false
	}
	switch r.Reason {
	case OK, Idle:
		return r.Dropped > 0
	case Evicted, EndpointRemoved, ServiceRemoved, Shutdown:
		return r.Protocol != udp || !r.answered() || r.Dropped > 0
	}
	return true
}

// answered says whether a UDP session has ever had a reply.
func (r *Record) answered() bool { return r.Ending != nil && r.FirstReply >= 0 }
