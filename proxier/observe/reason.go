package observe

// Reason is why a connection ended, as one word for people and machines.
type Reason string

// The reasons. Each has a two-letter code in the manner of HAProxy, the side
// that caused the end, and the phase in which it happened.
const (
	OK                 Reason = "ok"
	ClientReset        Reason = "client_reset"
	ClientGone         Reason = "client_gone"
	BackendRefused     Reason = "backend_refused"
	BackendUnreachable Reason = "backend_unreachable"
	ConnectTimeout     Reason = "connect_timeout"
	BackendReset       Reason = "backend_reset"
	BackendGone        Reason = "backend_gone"
	HalfCloseTimeout   Reason = "half_close_timeout"
	RetriesExhausted   Reason = "retries_exhausted"
	NoEndpoints        Reason = "no_endpoints"
	DirectAccess       Reason = "direct_access_denied"
	SourceDenied       Reason = "source_denied"
	LimitGlobal        Reason = "limit_global"
	OutOfFiles         Reason = "res_fds"
	OutOfMemory        Reason = "res_mem"
	OutOfPorts         Reason = "res_ports"
	Shutdown           Reason = "shutdown"
	SocketDestroyed    Reason = "socket_destroyed"
	InternalError      Reason = "internal_error"
)

// Side is the party that caused the end of a connection.
type Side string

// The sides.
const (
	SideNone    Side = "none"
	SideClient  Side = "client"
	SideBackend Side = "backend"
	SideProxy   Side = "proxy"
)

type meaning struct {
	code  string
	side  Side
	phase string
	text  string
}

var meanings = map[Reason]meaning{
	OK:                 {"--", SideNone, "data", "both sides closed"},
	ClientReset:        {"CD", SideClient, "data", "the client reset the connection"},
	ClientGone:         {"cD", SideClient, "data", "the client stopped answering"},
	BackendRefused:     {"SC", SideBackend, "connect", "the endpoint refused the connection"},
	BackendUnreachable: {"SC", SideBackend, "connect", "the endpoint could not be reached"},
	ConnectTimeout:     {"sC", SideBackend, "connect", "the endpoint did not answer in time"},
	BackendReset:       {"SD", SideBackend, "data", "the endpoint reset the connection"},
	BackendGone:        {"sD", SideBackend, "data", "the endpoint stopped answering"},
	HalfCloseTimeout:   {"hD", SideProxy, "data", "one side had closed and the other was silent for too long"},
	RetriesExhausted:   {"SX", SideBackend, "connect", "no endpoint could be connected to"},
	NoEndpoints:        {"NE", SideProxy, "pick", "the Service has no usable endpoint"},
	DirectAccess:       {"PA", SideProxy, "accept", "the client dialled the listener port itself, not a Service address"},
	SourceDenied:       {"PS", SideProxy, "accept", "the client is outside of loadBalancerSourceRanges"},
	LimitGlobal:        {"PG", SideProxy, "accept", "usher serves as many connections as it may"},
	OutOfFiles:         {"RF", SideProxy, "connect", "usher is out of file descriptors"},
	OutOfMemory:        {"RM", SideProxy, "connect", "the kernel is out of memory for sockets"},
	OutOfPorts:         {"RP", SideProxy, "connect", "no local port is left towards the endpoint"},
	Shutdown:           {"KS", SideProxy, "drain", "usher stopped"},
	SocketDestroyed:    {"KD", SideProxy, "data", "somebody destroyed the socket"},
	InternalError:      {"II", SideProxy, "data", "usher itself failed"},
}

// Code is the reason in two letters.
func (r Reason) Code() string { return meanings[r].code }

// Side is who caused it.
func (r Reason) Side() Side { return meanings[r].side }

// Phase is when it happened: accept, pick, connect, data or drain.
func (r Reason) Phase() string { return meanings[r].phase }

// Text says it in words.
func (r Reason) Text() string { return meanings[r].text }
