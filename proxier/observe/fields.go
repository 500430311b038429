package observe

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"
	"unique"

	"github.com/usher-proxy/usher/balancer"
)

// field is one key of a record's log line, and what the record says there, if anything.
type field struct {
	key   string
	say   func(to teller, key string, r *Record)
	needs trait // without them the record does not have it
}

// teller is told what records say in their fields: a line, or a map.
type teller interface {
	text(key, value string) // which may have anything in it
	word(key, value string) // one of usher's own words, of plain characters
	number(key string, n int64)
	milliseconds(key string, d time.Duration) // below 0 is never
	yes(key string, is bool)
	time(key string, t time.Time)
	ip(key string, a netip.Addr)
	addrPort(key string, a netip.AddrPort)
	id(key string, r *Record)
	sentence(key string, r *Record)
	attempts(key string, list attempts)
	tcpInfo(key string, i *TCPInfo)
}

// tell has a record say what it has of the fields.
func (r *Record) tell(list []field, to teller) {
	traits := r.traits()
	for i := range list {
		if f := &list[i]; traits.have(f) {
			f.say(to, f.key, r)
		}
	}
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
		{key: "v", say: func(t teller, k string, _ *Record) { t.number(k, 1) }},
		{key: "id", say: func(t teller, k string, r *Record) { t.id(k, r) }},
		{key: "node", say: func(t teller, k string, r *Record) { t.text(k, r.Node()) }},
		{key: "start", say: func(t teller, k string, r *Record) { t.time(k, r.Start.UTC()) }},
		{key: "proto", say: func(t teller, k string, r *Record) { t.word(k, r.Protocol) }},
		{key: "family", say: func(t teller, k string, r *Record) { t.number(k, int64(r.Family)) }},
		{key: "ns", say: func(t teller, k string, r *Record) { t.text(k, r.Namespace) }},
		{key: "service", say: func(t teller, k string, r *Record) { t.text(k, r.Service) }},
		{key: "port_name", say: func(t teller, k string, r *Record) { t.text(k, r.PortName) }},
		{key: "client_ip", say: func(t teller, k string, r *Record) { t.ip(k, r.Client.Addr()) }},
		{key: "client_port", say: func(t teller, k string, r *Record) { t.number(k, int64(r.Client.Port())) }},
		{key: "client_ip_kind", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.ClientKind.String()) }},
		{key: "listener", say: func(t teller, k string, r *Record) { t.addrPort(k, r.Listener) }},
		{key: "balancer", say: func(t teller, k string, r *Record) { t.text(k, r.Balancer.String()) }},
		{key: "pick", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.Pick.String()) }},
		{key: "affinity", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.Affinity.String()) }},
		{key: "set", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.Set.String()) }},
		{key: "candidates", say: func(t teller, k string, r *Record) { t.number(k, int64(r.Candidates)) }},
		{key: "eligible", say: func(t teller, k string, r *Record) { t.number(k, int64(r.Eligible)) }},
	},
	fieldsIf(hasEnded,
		field{key: "duration_ms", say: func(t teller, k string, r *Record) { t.milliseconds(k, r.Duration) }},
		field{key: "bytes_in", say: func(t teller, k string, r *Record) { t.number(k, r.BytesIn) }},
		field{key: "bytes_out", say: func(t teller, k string, r *Record) { t.number(k, r.BytesOut) }},
		field{key: "first_byte_backend_ms", say: func(t teller, k string, r *Record) { t.milliseconds(k, r.FirstReply) }},
		field{key: "reason", say: func(t teller, k string, r *Record) { t.word(k, string(r.Reason)) }},
		field{key: "code", say: func(t teller, k string, r *Record) { t.word(k, r.Reason.Code()) }},
		field{key: "side", say: func(t teller, k string, r *Record) { t.word(k, string(r.Reason.Side())) }},
		field{key: "phase", say: func(t teller, k string, r *Record) { t.word(k, r.Phase()) }},
		field{key: "errno", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.Errno) }},
	),
	fieldsIf(ofConnection,
		field{key: "event", say: func(t teller, k string, r *Record) { t.word(k, r.event()) }},
		field{key: "accept_wait_ms", say: func(t teller, k string, r *Record) { t.milliseconds(k, r.Waited) }},
		field{key: "connect_ms", say: func(t teller, k string, r *Record) { t.milliseconds(k, r.Connect) }},
	),
	fieldsIf(hasEnded|ofConnection,
		field{key: "first_byte_client_ms", say: func(t teller, k string, r *Record) { t.milliseconds(k, r.FirstByte) }},
		field{key: "client_close", say: func(t teller, k string, r *Record) { t.word(k, r.ClientClose.String()) }},
		field{key: "client_close_ms", say: func(t teller, k string, r *Record) { t.milliseconds(k, r.ClientCloseAt) }},
		field{key: "backend_close", say: func(t teller, k string, r *Record) { t.word(k, r.BackendClose.String()) }},
		field{key: "backend_close_ms", say: func(t teller, k string, r *Record) { t.milliseconds(k, r.BackendCloseAt) }},
		field{key: "sent_client", say: func(t teller, k string, r *Record) { t.word(k, r.SentClient.String()) }},
		field{key: "sent_backend", say: func(t teller, k string, r *Record) { t.word(k, r.SentBackend.String()) }},
	),
	fieldsIf(withSockets,
		field{key: "unsent_client", say: func(t teller, k string, r *Record) { t.number(k, r.Sockets.UnsentClient) }},
		field{key: "unsent_backend", say: func(t teller, k string, r *Record) { t.number(k, r.Sockets.UnsentBackend) }},
		field{key: "tcp_client", say: func(t teller, k string, r *Record) { unlessNil(t, k, r.Sockets.Client) }},
		field{key: "tcp_backend", say: func(t teller, k string, r *Record) { unlessNil(t, k, r.Sockets.Backend) }},
	),
	fieldsIf(ofSession,
		field{key: "event", say: func(t teller, k string, _ *Record) { t.word(k, "udp.close") }},
		field{key: "dgrams_in", say: func(t teller, k string, r *Record) { t.number(k, r.DatagramsIn) }},
		field{key: "dgrams_out", say: func(t teller, k string, r *Record) { t.number(k, r.DatagramsOut) }},
		field{key: "dgrams_dropped", say: func(t teller, k string, r *Record) { t.number(k, r.Dropped) }},
	),
	fieldsIf(tried,
		field{key: "attempts", say: func(t teller, k string, r *Record) { t.attempts(k, r.Attempts) }},
		field{key: "attempts_total", say: func(t teller, k string, r *Record) { t.number(k, int64(len(r.Attempts))) }},
	),
	fieldsIf(withVIP,
		field{key: "vip", say: func(t teller, k string, r *Record) { t.ip(k, r.VIP.Addr()) }},
	),
	fieldsIf(withVIPPort, // which address of the node a datagram was sent to is not always known
		field{key: "vip_port", say: func(t teller, k string, r *Record) { t.number(k, int64(r.VIP.Port())) }},
		field{key: "vip_kind", say: func(t teller, k string, r *Record) { t.text(k, r.VIPKind.String()) }},
	),
	fieldsIf(withBackend,
		field{key: "backend_ip", say: func(t teller, k string, r *Record) { t.ip(k, r.backend.Value().Addr.Addr()) }},
		field{key: "backend_port", say: func(t teller, k string, r *Record) { t.number(k, int64(r.backend.Value().Addr.Port())) }},
		field{key: "local_port", say: func(t teller, k string, r *Record) { t.number(k, int64(r.LocalPort)) }},
		field{key: "source", say: func(t teller, k string, r *Record) { t.text(k, r.Source.String()) }},
		field{key: "source_why", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.SourceWhy.String()) }},
		field{key: "backend_local", say: func(t teller, k string, r *Record) {
			t.yes(k, r.backend.Value().Node != "" && r.backend.Value().Node == r.Node())
		}},
		field{key: "backend_pod", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.backend.Value().Pod) }},
		field{key: "backend_node", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.backend.Value().Node) }},
		field{key: "backend_zone", say: func(t teller, k string, r *Record) { unlessEmpty(t, k, r.backend.Value().Zone) }},
	),
	fieldsIf(withActive,
		field{key: "svc_active", say: func(t teller, k string, r *Record) { t.number(k, int64(r.ServiceActive)) }},
		field{key: "global_active", say: func(t teller, k string, r *Record) { t.number(k, int64(r.GlobalActive)) }},
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

func unlessEmpty(t teller, key, value string) {
	if value != "" {
		t.text(key, value)
	}
}

func unlessNil(t teller, key string, i *TCPInfo) {
	if i != nil {
		t.tcpInfo(key, i)
	}
}

// Fields are the keys and values of the record's log line, for whoever wants something
// else than a line. Times are in milliseconds with three decimals, -1 where something
// never happened.
func (r *Record) Fields() map[string]any {
	m := make(fieldMap, len(fields))
	r.tell(fields, m)
	return m
}

// MarshalJSON is that of json.Marshaler: an object of the Fields.
func (r *Record) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(r.Fields())
	return EscapeJSON(text), err
}
