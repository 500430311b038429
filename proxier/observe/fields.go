package observe

import (
	"encoding/json"
	"slices"
	"unique"

	"github.com/usher-proxy/usher/balancer"
)

// field is one key of a record's log line, and what the record says there.
type field struct {
	key   string
	of    func(*Record) value
	needs trait // without them the record does not have it
}

// trait is something about a record that several fields go by. A set of them is a trait, too.
type trait uint16

const (
	hasEnded trait = 1 << iota
	ofConnection
	ofSession // which has a record only when it has ended
	tried
	withVIP
	withVIPPort
	withBackend
	withActive
	withSockets
)

func (of trait) have(f *field) bool { return f.needs&^of == 0 }

// fields are those that a record may have. They are the only list of them: Fields and
// the lines of Formatter follow it.
var fields = slices.Concat(
	[]field{
		{key: "v", of: func(*Record) value { return number(1) }},
		{key: "id", of: func(r *Record) value { return value{kind: kindID, record: r} }},
		{key: "node", of: func(r *Record) value { return text(r.Node()) }},
		{key: "start", of: func(r *Record) value { return value{kind: kindStart, record: r} }},
		{key: "proto", of: func(r *Record) value { return text(r.Protocol) }},
		{key: "family", of: func(r *Record) value { return number(r.Family) }},
		{key: "ns", of: func(r *Record) value { return text(r.Namespace) }},
		{key: "service", of: func(r *Record) value { return text(r.Service) }},
		{key: "port_name", of: func(r *Record) value { return text(r.PortName) }},
		{key: "client_ip", of: func(r *Record) value { return ip(&r.Client) }},
		{key: "client_port", of: func(r *Record) value { return number(r.Client.Port()) }},
		{key: "client_ip_kind", of: func(r *Record) value { return unlessEmpty(r.ClientKind.String()) }},
		{key: "listener", of: func(r *Record) value { return addrPort(&r.Listener) }},
		{key: "balancer", of: func(r *Record) value { return text(r.Balancer.String()) }},
		{key: "pick", of: func(r *Record) value { return unlessEmpty(r.Pick.String()) }},
		{key: "affinity", of: func(r *Record) value { return unlessEmpty(r.Affinity.String()) }},
		{key: "set", of: func(r *Record) value { return unlessEmpty(r.Set.String()) }},
		{key: "candidates", of: func(r *Record) value { return number(r.Candidates) }},
		{key: "eligible", of: func(r *Record) value { return number(r.Eligible) }},
	},
	fieldsIf(hasEnded,
		field{key: "duration_ms", of: func(r *Record) value { return milliseconds(r.Duration) }},
		field{key: "bytes_in", of: func(r *Record) value { return number(r.BytesIn) }},
		field{key: "bytes_out", of: func(r *Record) value { return number(r.BytesOut) }},
		field{key: "first_byte_backend_ms", of: func(r *Record) value { return milliseconds(r.FirstReply) }},
		field{key: "reason", of: func(r *Record) value { return text(string(r.Reason)) }},
		field{key: "code", of: func(r *Record) value { return text(r.Reason.Code()) }},
		field{key: "side", of: func(r *Record) value { return text(string(r.Reason.Side())) }},
		field{key: "phase", of: func(r *Record) value { return text(r.Phase()) }},
		field{key: "errno", of: func(r *Record) value { return unlessEmpty(r.Errno) }},
	),
	fieldsIf(ofConnection,
		field{key: "event", of: func(r *Record) value { return text(r.event()) }},
		field{key: "accept_wait_ms", of: func(r *Record) value { return milliseconds(r.Waited) }},
		field{key: "connect_ms", of: func(r *Record) value { return milliseconds(r.Connect) }},
	),
	fieldsIf(hasEnded|ofConnection,
		field{key: "first_byte_client_ms", of: func(r *Record) value { return milliseconds(r.FirstByte) }},
		field{key: "client_close", of: func(r *Record) value { return text(r.ClientClose.String()) }},
		field{key: "client_close_ms", of: func(r *Record) value { return milliseconds(r.ClientCloseAt) }},
		field{key: "backend_close", of: func(r *Record) value { return text(r.BackendClose.String()) }},
		field{key: "backend_close_ms", of: func(r *Record) value { return milliseconds(r.BackendCloseAt) }},
		field{key: "sent_client", of: func(r *Record) value { return text(r.SentClient.String()) }},
		field{key: "sent_backend", of: func(r *Record) value { return text(r.SentBackend.String()) }},
	),
	fieldsIf(withSockets,
		field{key: "unsent_client", of: func(r *Record) value { return number(r.Sockets.UnsentClient) }},
		field{key: "unsent_backend", of: func(r *Record) value { return number(r.Sockets.UnsentBackend) }},
		field{key: "tcp_client", of: func(r *Record) value { return tcpInfo(kindTCPClient, r) }},
		field{key: "tcp_backend", of: func(r *Record) value { return tcpInfo(kindTCPBackend, r) }},
	),
	fieldsIf(ofSession,
		field{key: "event", of: func(*Record) value { return text("udp.close") }},
		field{key: "dgrams_in", of: func(r *Record) value { return number(r.DatagramsIn) }},
		field{key: "dgrams_out", of: func(r *Record) value { return number(r.DatagramsOut) }},
		field{key: "dgrams_dropped", of: func(r *Record) value { return number(r.Dropped) }},
	),
	fieldsIf(tried,
		field{key: "attempts", of: func(r *Record) value { return value{kind: kindAttempts, record: r} }},
		field{key: "attempts_total", of: func(r *Record) value { return number(len(r.Attempts)) }},
	),
	fieldsIf(withVIP,
		field{key: "vip", of: func(r *Record) value { return ip(&r.VIP) }},
	),
	fieldsIf(withVIPPort, // which address of the node a datagram was sent to is not always known
		field{key: "vip_port", of: func(r *Record) value { return number(r.VIP.Port()) }},
		field{key: "vip_kind", of: func(r *Record) value { return text(r.VIPKind.String()) }},
	),
	fieldsIf(withBackend,
		field{key: "backend_ip", of: func(r *Record) value { return value{kind: kindBackendIP, record: r} }},
		field{key: "backend_port", of: func(r *Record) value { return number(r.Backend().Addr.Port()) }},
		field{key: "local_port", of: func(r *Record) value { return number(r.LocalPort) }},
		field{key: "source", of: func(r *Record) value { return text(r.Source.String()) }},
		field{key: "source_why", of: func(r *Record) value { return unlessEmpty(r.SourceWhy.String()) }},
		field{key: "backend_local", of: func(r *Record) value { return yes(r.Backend().Node != "" && r.Backend().Node == r.Node()) }},
		field{key: "backend_pod", of: func(r *Record) value { return unlessEmpty(r.Backend().Pod) }},
		field{key: "backend_node", of: func(r *Record) value { return unlessEmpty(r.Backend().Node) }},
		field{key: "backend_zone", of: func(r *Record) value { return unlessEmpty(r.Backend().Zone) }},
	),
	fieldsIf(withActive,
		field{key: "svc_active", of: func(r *Record) value { return number(r.ServiceActive) }},
		field{key: "global_active", of: func(r *Record) value { return number(r.GlobalActive) }},
	),
)

// fieldsIf are fields that only some records have.
func fieldsIf(needs trait, list ...field) []field {
	for i := range list {
		list[i].needs = needs
	}
	return list
}

// traits are all that the record has.
func (r *Record) traits() (all trait) {
	add := func(is bool, t trait) {
		if is {
			all |= t
		}
	}
	isSession := r.Protocol == udp
	add(r.Ending != nil, hasEnded)
	add(!isSession, ofConnection)
	add(isSession && r.Ending != nil, ofSession)
	add(!isSession || len(r.Attempts) > 0, tried)
	add(r.VIP.IsValid(), withVIP)
	add(r.VIP.Port() > 0, withVIPPort)
	add(r.hasBackend(), withBackend)
	add(r.ServiceActive > 0, withActive)
	add(r.Ending != nil && r.Sockets != nil, withSockets)
	return all
}

func (r *Record) hasBackend() bool { return r.backend != (unique.Handle[balancer.Endpoint]{}) }

func (r *Record) event() string {
	if r.Ending == nil {
		return "conn.open"
	}
	return "conn.close"
}

// Fields are the keys and values of the record's log line, for whoever wants something
// else than a line. Times are in milliseconds with three decimals, -1 where something
// never happened.
func (r *Record) Fields() map[string]any {
	m := make(map[string]any, len(fields))
	traits := r.traits()
	for _, f := range fields {
		if !traits.have(&f) {
			continue
		}
		if v := f.of(r); v.kind != kindNone {
			m[f.key] = v.any()
		}
	}
	return m
}

// MarshalJSON is that of json.Marshaler: an object of the Fields.
func (r *Record) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(r.Fields())
	return EscapeJSON(text), err
}
