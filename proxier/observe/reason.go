package observe

import (
	"maps"
	"slices"
)

// Reason is why a connection or a UDP session ended, as one word for people and
// machines.
type Reason string

// The reasons. Each has a two-letter code in the manner of HAProxy, the side
// that caused the end, and the phase in which it happened. Idle, Evicted and
// ServiceRemoved are for UDP sessions, which nobody closes: Idle is how they end
// normally. IdleTimeout, MaxDuration, EndpointRemoved and EndpointUnhealthy end connections
// only where the Service asks for it. Superseded and Abandoned are of attempts only, and of
// a connection BackendResetEarly is rare: the reset has to come before anybody has seen that
// it was made.
const (
	OK                 Reason = "ok"
	ClientAbort        Reason = "client_abort"
	ClientReset        Reason = "client_reset"
	ClientGone         Reason = "client_gone"
	BackendRefused     Reason = "backend_refused"
	BackendUnreachable Reason = "backend_unreachable"
	ConnectTimeout     Reason = "connect_timeout"
	BackendResetEarly  Reason = "backend_reset_early"
	BackendReset       Reason = "backend_reset"
	BackendGone        Reason = "backend_gone"
	HalfCloseTimeout   Reason = "half_close_timeout"
	IdleTimeout        Reason = "idle_timeout"
	MaxDuration        Reason = "max_duration"
	RetriesExhausted   Reason = "retries_exhausted"
	NoEndpoints        Reason = "no_endpoints"
	NoReadyEndpoints   Reason = "no_ready_endpoints"
	NoLocalEndpoints   Reason = "no_local_endpoints"
	DirectAccess       Reason = "direct_access_denied"
	SourceDenied       Reason = "source_denied"
	LimitGlobal        Reason = "limit_global"
	LimitService       Reason = "limit_service"
	LimitBackend       Reason = "limit_backend"
	LimitClient        Reason = "limit_client"
	RateLimited        Reason = "rate_limited"
	OutOfFiles         Reason = "res_fds"
	OutOfMemory        Reason = "res_mem"
	OutOfPorts         Reason = "res_ports"
	Idle               Reason = "idle"
	Evicted            Reason = "evicted"
	EndpointRemoved    Reason = "endpoint_removed"
	EndpointUnhealthy  Reason = "endpoint_unhealthy"
	ServiceRemoved     Reason = "service_removed"
	AdminKilled        Reason = "admin_killed"
	Shutdown           Reason = "shutdown"
	SocketDestroyed    Reason = "socket_destroyed"
	Superseded         Reason = "superseded" // of an attempt, never of a connection
	Abandoned          Reason = "abandoned"  // likewise
	InternalError      Reason = "internal_error"
)

// Side is the party that caused the end.
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

// The first letter is a capital for an event and a small one for a timer, as in
// HAProxy ("Session state at disconnection" in its manual). Its c and s are the
// timers of one side; h (half-closed), i (idle) and m (maximum) belong to neither side and
// are usher's own.
var meanings = map[Reason]meaning{
	OK:                 {"--", SideNone, "data", "both sides closed"},
	ClientAbort:        {"CC", SideClient, "connect", "the client reset the connection before it had an endpoint"},
	ClientReset:        {"CD", SideClient, "data", "the client reset the connection"},
	ClientGone:         {"cD", SideClient, "data", "the client stopped answering"},
	BackendRefused:     {"SC", SideBackend, "connect", "the endpoint refused"},
	BackendUnreachable: {"SC", SideBackend, "connect", "the endpoint could not be reached"},
	ConnectTimeout:     {"sC", SideBackend, "connect", "the endpoint did not answer in time"},
	BackendResetEarly:  {"SC", SideBackend, "connect", "the endpoint ended the connection before it had sent anything"},
	BackendReset:       {"SD", SideBackend, "data", "the endpoint reset the connection"},
	BackendGone:        {"sD", SideBackend, "data", "the endpoint stopped answering"},
	HalfCloseTimeout:   {"hD", SideProxy, "data", "one side had closed and the other was silent for too long"},
	IdleTimeout:        {"iD", SideProxy, "data", "neither side moved a byte for too long"},
	MaxDuration:        {"mD", SideProxy, "data", "it was as old as the Service lets a connection become"},
	RetriesExhausted:   {"SX", SideBackend, "connect", "no endpoint could be connected to"},
	NoEndpoints:        {"NE", SideProxy, "pick", "the Service has no usable endpoint"},
	NoReadyEndpoints:   {"NR", SideProxy, "pick", "no endpoint of the Service is ready"},
	NoLocalEndpoints:   {"NL", SideProxy, "pick", "no endpoint of the Service is on this node, and its traffic policy is Local"},
	DirectAccess:       {"PA", SideProxy, "accept", "the client dialled the listener port itself, not a Service address"},
	SourceDenied:       {"PS", SideProxy, "accept", "the client is outside of loadBalancerSourceRanges"},
	LimitGlobal:        {"PG", SideProxy, "accept", "usher serves as many connections as it may"},
	LimitService:       {"PV", SideProxy, "accept", "the Service port has as many connections as it may"},
	LimitBackend:       {"PB", SideProxy, "pick", "every endpoint has as many connections as it may"},
	LimitClient:        {"PK", SideProxy, "accept", "the client has as many connections as it may"},
	RateLimited:        {"PR", SideProxy, "accept", "connections to the Service port begin faster than they may"},
	OutOfFiles:         {"RF", SideProxy, "connect", "usher is out of file descriptors"},
	OutOfMemory:        {"RM", SideProxy, "connect", "the kernel is out of memory for sockets"},
	OutOfPorts:         {"RP", SideProxy, "connect", "no local port is left towards the endpoint"},
	Idle:               {"iD", SideProxy, "data", "no more datagrams came"},
	Evicted:            {"PE", SideProxy, "data", "it made room for another session"},
	EndpointRemoved:    {"DE", SideProxy, "drain", "the endpoint no longer belongs to the Service"},
	EndpointUnhealthy:  {"DU", SideProxy, "drain", "the endpoint is not ready any more"},
	ServiceRemoved:     {"DS", SideProxy, "drain", "the Service no longer has this port"},
	AdminKilled:        {"KA", SideProxy, "data", "an administrator ended it"},
	Shutdown:           {"KS", SideProxy, "drain", "usher stopped"},
	SocketDestroyed:    {"KD", SideProxy, "data", "somebody destroyed the socket"},
	Superseded:         {"--", SideNone, "connect", "another attempt was faster"},
	Abandoned:          {"--", SideNone, "connect", "nobody waited for it any more"},
	InternalError:      {"II", SideProxy, "data", "usher itself failed"},
}

// Reasons are all that there are, sorted.
func Reasons() []Reason { return slices.Sorted(maps.Keys(meanings)) }

// Code is the reason in two letters.
func (r Reason) Code() string { return meanings[r].code }

// Side is who caused it.
func (r Reason) Side() Side { return meanings[r].side }

// Phase is when it happens: accept, pick, connect, data or drain. Some may happen in
// another one too, and a Record knows: Record.Phase.
func (r Reason) Phase() string { return meanings[r].phase }

// Text says it in words.
func (r Reason) Text() string { return meanings[r].text }
