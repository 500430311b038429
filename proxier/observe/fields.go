package observe

import (
	"encoding/json"
	"slices"
	"unique"

	"github.com/usher-proxy/usher/balancer"
)

// field is one key of a record's log line, and what the record says there.
type field struct {
	key string
	of  func(*Record) value
	has func(*Record) bool // whether the record may have it; nil: all may
}

func (f *field) isOf(r *Record) bool { return f.has == nil || f.has(r) }

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
		{key: "affinity", of: func(r *Record) value { return unlessEmpty(r.Affinity.String()) }},
		{key: "set", of: func(r *Record) value { return unlessEmpty(r.Set.String()) }},
		{key: "eligible", of: func(r *Record) value { return number(r.Eligible) }},
		{key: "duration_ms", of: func(r *Record) value { return milliseconds(r.Duration) }},
		{key: "bytes_in", of: func(r *Record) value { return number(r.BytesIn) }},
		{key: "bytes_out", of: func(r *Record) value { return number(r.BytesOut) }},
		{key: "first_byte_backend_ms", of: func(r *Record) value { return milliseconds(r.FirstReply) }},
		{key: "reason", of: func(r *Record) value { return text(string(r.Reason)) }},
		{key: "code", of: func(r *Record) value { return text(r.Reason.Code()) }},
		{key: "side", of: func(r *Record) value { return text(string(r.Reason.Side())) }},
		{key: "phase", of: func(r *Record) value { return text(r.Reason.Phase()) }},
		{key: "errno", of: func(r *Record) value { return unlessEmpty(r.Errno) }},
	},
	fieldsIf((*Record).ofConnection,
		field{key: "event", of: func(*Record) value { return text("conn.close") }},
		field{key: "accept_wait_ms", of: func(r *Record) value { return milliseconds(r.Waited) }},
		field{key: "connect_ms", of: func(r *Record) value { return milliseconds(r.Connect) }},
		field{key: "first_byte_client_ms", of: func(r *Record) value { return milliseconds(r.FirstByte) }},
		field{key: "client_close", of: func(r *Record) value { return text(r.ClientClose.String()) }},
		field{key: "client_close_ms", of: func(r *Record) value { return milliseconds(r.ClientCloseAt) }},
		field{key: "backend_close", of: func(r *Record) value { return text(r.BackendClose.String()) }},
		field{key: "backend_close_ms", of: func(r *Record) value { return milliseconds(r.BackendCloseAt) }},
		field{key: "sent_client", of: func(r *Record) value { return text(r.SentClient.String()) }},
		field{key: "sent_backend", of: func(r *Record) value { return text(r.SentBackend.String()) }},
	),
	fieldsIf((*Record).ofSession,
		field{key: "event", of: func(*Record) value { return text("udp.close") }},
		field{key: "dgrams_in", of: func(r *Record) value { return number(r.DatagramsIn) }},
		field{key: "dgrams_out", of: func(r *Record) value { return number(r.DatagramsOut) }},
		field{key: "dgrams_dropped", of: func(r *Record) value { return number(r.Dropped) }},
	),
	fieldsIf((*Record).hasAttempts,
		field{key: "attempts", of: func(r *Record) value { return value{kind: kindAttempts, record: r} }},
		field{key: "attempts_total", of: func(r *Record) value { return number(len(r.Attempts)) }},
	),
	fieldsIf((*Record).hasVIP,
		field{key: "vip", of: func(r *Record) value { return ip(&r.VIP) }},
	),
	fieldsIf((*Record).hasVIPPort, // which address of the node a datagram was sent to is not always known
		field{key: "vip_port", of: func(r *Record) value { return number(r.VIP.Port()) }},
		field{key: "vip_kind", of: func(r *Record) value { return text(r.VIPKind.String()) }},
	),
	fieldsIf((*Record).hasBackend,
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
	fieldsIf((*Record).hasActive,
		field{key: "svc_active", of: func(r *Record) value { return number(r.ServiceActive) }},
		field{key: "global_active", of: func(r *Record) value { return number(r.GlobalActive) }},
	),
)

// fieldsIf are fields that only some records have.
func fieldsIf(has func(*Record) bool, list ...field) []field {
	for i := range list {
		list[i].has = has
	}
	return list
}

func (r *Record) ofConnection() bool { return r.Protocol != udp }
func (r *Record) ofSession() bool    { return r.Protocol == udp }
func (r *Record) hasAttempts() bool  { return r.ofConnection() || len(r.Attempts) > 0 }
func (r *Record) hasVIP() bool       { return r.VIP.IsValid() }
func (r *Record) hasVIPPort() bool   { return r.VIP.Port() > 0 }
func (r *Record) hasBackend() bool   { return r.backend != (unique.Handle[balancer.Endpoint]{}) }
func (r *Record) hasActive() bool    { return r.ServiceActive > 0 }

// Fields are the keys and values of the record's log line, for whoever wants something
// else than a line. Times are in milliseconds with three decimals, -1 where something
// never happened.
func (r *Record) Fields() map[string]any {
	m := make(map[string]any, len(fields))
	for _, f := range fields {
		if !f.isOf(r) {
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
