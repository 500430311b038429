package admin

import "time"

// Flow is a line of /v1/flows: the record of a connection or of a UDP session that has
// ended, with the keys of a line of the JSON log (RECORDS.md in package observe). Times in
// milliseconds are -1 for what never happened, and what a record does not have is empty.
type Flow struct {
	Time    time.Time `json:"ts"` // when it ended
	Level   string    `json:"level,omitempty"`
	Message string    `json:"msg"` // a plain sentence
	Version int       `json:"v"`
	Event   string    `json:"event"` // conn.close or udp.close

	ID       string    `json:"id"`
	Node     string    `json:"node"`
	Start    time.Time `json:"start"`
	Protocol string    `json:"proto"`  // tcp or udp
	Family   int       `json:"family"` // 4 or 6

	Namespace string `json:"ns"`
	Service   string `json:"service"`
	PortName  string `json:"port_name"`
	Listener  string `json:"listener"` // IP:port

	ClientIP   string `json:"client_ip"`
	ClientPort uint16 `json:"client_port"`
	ClientKind string `json:"client_ip_kind,omitempty"`
	VIP        string `json:"vip,omitempty"`
	VIPPort    uint16 `json:"vip_port,omitempty"`
	VIPKind    string `json:"vip_kind,omitempty"`

	Balancer string `json:"balancer"`
	Pick     string `json:"pick,omitempty"` // why this endpoint
	Affinity string `json:"affinity,omitempty"`
	Set      string `json:"set,omitempty"`
	Eligible int    `json:"eligible"`
	// Candidates are the endpoints that there were, eligible or not.
	Candidates int `json:"candidates,omitempty"`

	BackendIP    string `json:"backend_ip,omitempty"`
	BackendPort  uint16 `json:"backend_port,omitempty"`
	BackendPod   string `json:"backend_pod,omitempty"`
	BackendNode  string `json:"backend_node,omitempty"`
	BackendZone  string `json:"backend_zone,omitempty"`
	BackendLocal bool   `json:"backend_local,omitempty"`
	LocalPort    uint16 `json:"local_port,omitempty"`
	Source       string `json:"source,omitempty"`
	SourceWhy    string `json:"source_why,omitempty"`

	Attempts      []FlowAttempt `json:"attempts,omitempty"`
	AttemptsTotal int           `json:"attempts_total,omitempty"`

	AcceptWaitMs       float64 `json:"accept_wait_ms"`
	ConnectMs          float64 `json:"connect_ms"`
	FirstByteClientMs  float64 `json:"first_byte_client_ms"`
	FirstByteBackendMs float64 `json:"first_byte_backend_ms"`
	DurationMs         float64 `json:"duration_ms"`
	BytesIn            int64   `json:"bytes_in"`  // from the client
	BytesOut           int64   `json:"bytes_out"` // to the client

	Reason string `json:"reason"`
	Code   string `json:"code"`
	Side   string `json:"side"`
	Phase  string `json:"phase"`
	Errno  string `json:"errno,omitempty"`

	// How each side ended, and what was sent to it: none, fin, rst, timeout (it stopped
	// answering) or local (its socket was destroyed on this node).
	ClientClose    string  `json:"client_close,omitempty"`
	ClientCloseMs  float64 `json:"client_close_ms"`
	BackendClose   string  `json:"backend_close,omitempty"`
	BackendCloseMs float64 `json:"backend_close_ms"`
	SentClient     string  `json:"sent_client,omitempty"`
	SentBackend    string  `json:"sent_backend,omitempty"`

	// What each side had not acknowledged at the end, in bytes (SIOCOUTQ in tcp(7)), and
	// what else the kernel knew of its socket; nil: it was not asked.
	UnsentClient  *int64   `json:"unsent_client,omitempty"`
	UnsentBackend *int64   `json:"unsent_backend,omitempty"`
	TCPClient     *TCPInfo `json:"tcp_client,omitempty"`
	TCPBackend    *TCPInfo `json:"tcp_backend,omitempty"`

	// Of UDP sessions only.
	DatagramsIn      int64 `json:"dgrams_in,omitempty"`
	DatagramsOut     int64 `json:"dgrams_out,omitempty"`
	DatagramsDropped int64 `json:"dgrams_dropped,omitempty"`

	ServiceActive int `json:"svc_active,omitempty"`
	GlobalActive  int `json:"global_active,omitempty"`

	// Lost is of a line of its own, which has nothing else: how many flows were overwritten
	// before this reader had read them.
	Lost uint64 `json:"lost,omitempty"`
}

// FlowAttempt is one try to connect to one endpoint.
type FlowAttempt struct {
	Backend    string  `json:"backend"` // IP:port
	Pod        string  `json:"pod,omitempty"`
	StartMs    float64 `json:"start_ms"` // after the connection was accepted
	DurationMs float64 `json:"dur_ms"`
	Result     string  `json:"result"` // ok, or the reason that this attempt alone would have ended with
	Errno      string  `json:"errno,omitempty"`
	Hedged     bool    `json:"hedged,omitempty"` // it began while another one was waiting
}

// End is when it ended.
func (f *Flow) End() time.Time {
	return f.Start.Add(time.Duration(f.DurationMs * float64(time.Millisecond)))
}

// Trouble says whether the client may have missed something, by the rule of
// observe.Record.Trouble.
func (f *Flow) Trouble() bool {
	switch f.Reason {
	case "ok", "idle":
		return f.DatagramsDropped > 0
	case "evicted", "endpoint_removed", "service_removed", "shutdown":
		return f.Protocol != "udp" || f.FirstByteBackendMs < 0 || f.DatagramsDropped > 0
	}
	return true
}
