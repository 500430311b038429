package admin

import "time"

// Connections are those that are live: /v1/connections, the oldest first.
type Connections struct {
	Connections []Connection `json:"connections"`
	More        int          `json:"more"` // that fit too, but are beyond the limit that was asked for
}

// The states of a Connection, by how far it has come.
const (
	StateWaiting    = "waiting"     // for its turn at a limit
	StateConnecting = "connecting"  // to an endpoint
	StateOpen       = "open"        // both ways
	StateHalfClosed = "half-closed" // one side has sent its FIN
)

// Connection is a live one. What is not known yet is empty, or -1.
type Connection struct {
	ID         string    `json:"id"`
	Started    time.Time `json:"started"`
	AgeSeconds float64   `json:"age_seconds"`
	State      string    `json:"state"`
	Namespace  string    `json:"namespace"`
	Service    string    `json:"service"`
	PortName   string    `json:"port_name"`
	Family     string    `json:"family"`
	Client     string    `json:"client"` // IP:port
	ClientKind string    `json:"client_kind,omitempty"`
	VIP        string    `json:"vip,omitempty"` // IP:port that the client dialled
	VIPKind    string    `json:"vip_kind,omitempty"`
	Listener   string    `json:"listener,omitempty"`
	Set        string    `json:"set,omitempty"`
	Balancer   string    `json:"balancer,omitempty"`
	Affinity   string    `json:"affinity,omitempty"`
	Endpoint   string    `json:"endpoint,omitempty"` // IP:port
	Pod        string    `json:"pod,omitempty"`
	Node       string    `json:"node,omitempty"`
	Zone       string    `json:"zone,omitempty"`
	LocalPort  uint16    `json:"local_port,omitempty"` // ours towards the endpoint
	Source     string    `json:"source,omitempty"`     // client or node: whose address the endpoint sees
	ConnectMs  float64   `json:"connect_ms"`
	BytesIn    int64     `json:"bytes_in"`
	BytesOut   int64     `json:"bytes_out"`
	// Closed says which side has sent its FIN: client, backend or empty.
	Closed   string    `json:"closed,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty"` // that have failed before
	// What the kernel says of the two sockets (TCP_INFO in tcp(7)), if one connection was
	// asked for by its id.
	TCPClient  *TCPInfo `json:"tcp_client,omitempty"`
	TCPBackend *TCPInfo `json:"tcp_backend,omitempty"`
}

// Attempt is one try to connect to one endpoint.
type Attempt struct {
	Endpoint   string  `json:"endpoint"`
	Pod        string  `json:"pod,omitempty"`
	StartMs    float64 `json:"start_ms"` // after the connection was accepted
	DurationMs float64 `json:"duration_ms"`
	Result     string  `json:"result"`
	Errno      string  `json:"errno,omitempty"`
}

// TCPInfo is some of what the kernel knows of a TCP socket.
type TCPInfo struct {
	State         string `json:"state"` // as ss(8) calls it
	RTTMicros     uint32 `json:"rtt_us"`
	RTTVarMicros  uint32 `json:"rttvar_us"`
	Retransmits   uint32 `json:"retrans"` // in all
	Lost          uint32 `json:"lost"`    // segments that are thought lost now
	MSS           uint32 `json:"snd_mss"`
	Cwnd          uint32 `json:"snd_cwnd"`
	Unacked       uint32 `json:"unacked"`         // segments
	Unsent        int    `json:"unsent"`          // bytes that the peer has not acknowledged (SIOCOUTQ)
	SinceReceived uint32 `json:"last_recv_ms"`    // since data came last
	SinceSent     uint32 `json:"last_sent_ms"`    // since data was sent last
	Delivery      uint64 `json:"delivery_rate_B"` // bytes a second, as the kernel estimates it
}

// Sessions are those of UDP that are live: /v1/sessions.
type Sessions struct {
	Sessions []Session `json:"sessions"`
	More     int       `json:"more"` // that fit too, but are beyond the limit that was asked for
}

// Session is the datagrams between one client's address and port and one endpoint.
type Session struct {
	Started      time.Time `json:"started"`
	AgeSeconds   float64   `json:"age_seconds"`
	IdleSeconds  float64   `json:"idle_seconds"`
	Namespace    string    `json:"namespace"`
	Service      string    `json:"service"`
	PortName     string    `json:"port_name"`
	Family       string    `json:"family"`
	Client       string    `json:"client"`
	VIP          string    `json:"vip"` // that the client sends to
	Endpoint     string    `json:"endpoint"`
	Pod          string    `json:"pod,omitempty"`
	Node         string    `json:"node,omitempty"`
	Answered     bool      `json:"answered"` // the endpoint has sent something
	DatagramsIn  int64     `json:"datagrams_in"`
	DatagramsOut int64     `json:"datagrams_out"`
	BytesIn      int64     `json:"bytes_in"`
	BytesOut     int64     `json:"bytes_out"`
}

// Listener is a socket that usher serves a Service port on: /v1/listeners.
type Listener struct {
	Namespace string   `json:"namespace"` // empty with Service: it serves none, but clients that may use none
	Service   string   `json:"service"`
	PortName  string   `json:"port_name"`
	Protocol  string   `json:"protocol"`
	Family    string   `json:"family"`
	Address   string   `json:"address"` // IP:port that it is bound to
	Answer    string   `json:"answer"`  // serve, refuse or silence
	Set       string   `json:"set,omitempty"`
	Frontends []string `json:"frontends"` // that lead to it, as in cluster 10.96.0.10:53
	Active    int64    `json:"active"`    // connections or sessions of its Service port and family
}
