package observe

import (
	"maps"
	"strings"
	"time"
)

// Fields are the keys and values of the record's log line. Times are in
// milliseconds with three decimals, -1 where something never happened.
func (r *Record) Fields() map[string]any {
	f := map[string]any{
		"v": 1, "id": r.ID, "node": r.Node,
		"start": r.Start.UTC().Format(time.RFC3339Nano),
		"proto": r.Protocol, "family": r.Family,
		"ns": r.Namespace, "service": r.Service, "port_name": r.PortName,
		"client_ip": r.Client.Addr().String(), "client_port": r.Client.Port(),
		"listener": r.Listener.String(),
		"balancer": r.Balancer, "eligible": r.Eligible,
		"duration_ms": milliseconds(r.Duration),
		"bytes_in":    r.BytesIn, "bytes_out": r.BytesOut,
		"first_byte_backend_ms": milliseconds(r.FirstReply),
		"reason":                string(r.Reason), "code": r.Reason.Code(),
		"side": string(r.Reason.Side()), "phase": r.Reason.Phase(),
	}
	if r.Protocol == udp {
		maps.Copy(f, r.sessionFields())
	} else {
		maps.Copy(f, r.connectionFields())
	}
	if r.VIP.IsValid() {
		f["vip"] = r.VIP.Addr().String()
	}
	if r.VIP.Port() > 0 { // which address of the node a datagram was sent to is not always known
		f["vip_port"], f["vip_kind"] = r.VIP.Port(), r.VIPKind
	}
	if r.Backend.Addr.IsValid() {
		f["backend_ip"], f["backend_port"] = r.Backend.Addr.Addr().String(), r.Backend.Addr.Port()
		f["local_port"], f["source"] = r.LocalPort, r.Source
		setIf(f, "source_why", r.SourceWhy)
		f["backend_local"] = r.Backend.Node != "" && r.Backend.Node == r.Node
		setIf(f, "backend_pod", r.Backend.Pod)
		setIf(f, "backend_node", r.Backend.Node)
		setIf(f, "backend_zone", r.Backend.Zone)
	}
	if r.ServiceActive > 0 {
		f["svc_active"], f["global_active"] = r.ServiceActive, r.GlobalActive
	}
	setIf(f, "client_ip_kind", r.ClientKind)
	setIf(f, "set", r.Set)
	setIf(f, "affinity", r.Affinity)
	setIf(f, "errno", r.Errno)
	return f
}

// connectionFields are what only a connection has.
func (r *Record) connectionFields() map[string]any {
	return map[string]any{
		"event":    "conn.close",
		"attempts": r.attempts(), "attempts_total": len(r.Attempts),
		"accept_wait_ms": milliseconds(r.Waited), "connect_ms": milliseconds(r.Connect),
		"first_byte_client_ms": milliseconds(r.FirstByte),
		"client_close":         string(r.ClientClose), "client_close_ms": milliseconds(r.ClientCloseAt),
		"backend_close": string(r.BackendClose), "backend_close_ms": milliseconds(r.BackendCloseAt),
		"sent_client": string(r.SentClient), "sent_backend": string(r.SentBackend),
	}
}

// sessionFields are what only a UDP session has.
func (r *Record) sessionFields() map[string]any {
	f := map[string]any{
		"event":     "udp.close",
		"dgrams_in": r.DatagramsIn, "dgrams_out": r.DatagramsOut, "dgrams_dropped": r.Dropped,
	}
	if len(r.Attempts) > 0 {
		f["attempts"], f["attempts_total"] = r.attempts(), len(r.Attempts)
	}
	return f
}

func setIf(f map[string]any, key, value string) {
	if value != "" {
		f[key] = value
	}
}

func milliseconds(d time.Duration) float64 {
	if d < 0 {
		return -1
	}
	return float64(d.Microseconds()) / 1000
}

// attempt is an Attempt as the log shows it.
type attempt struct {
	Backend  string  `json:"backend"`
	Pod      string  `json:"pod,omitempty"`
	StartMS  float64 `json:"start_ms"`
	Duration float64 `json:"dur_ms"`
	Result   Reason  `json:"result"`
	Errno    string  `json:"errno,omitempty"`
	Hedged   bool    `json:"hedged,omitempty"`
}

// attempts prints as a JSON list in a JSON log, and compactly in a text log.
type attempts []attempt

func (r *Record) attempts() attempts {
	list := make(attempts, len(r.Attempts))
	for i, a := range r.Attempts {
		list[i] = attempt{a.Backend.String(), a.Pod, milliseconds(a.Start), milliseconds(a.Duration), a.Result, a.Errno, a.Hedged}
	}
	return list
}

func (list attempts) String() string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.Backend + "=" + string(a.Result)
		if a.Errno != "" {
			words[i] += "(" + a.Errno + ")"
		}
	}
	return strings.Join(words, ",")
}
