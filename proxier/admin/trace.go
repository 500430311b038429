package admin

import "time"

// TraceEvent is a line of POST /v1/trace: something that a connection has come to.
type TraceEvent struct {
	Time time.Time `json:"time"`
	ID   string    `json:"id,omitempty"` // of the connection
	Ms   float64   `json:"ms"`           // since it was accepted
	// Event is begin and end of the trace itself; accepted, arrived, limits, attempt,
	// result, connected, announced, first_reply, first_byte, client_close,
	// backend_close, sent_client, sent_backend, replayed or closed.
	Event     string `json:"event"`
	Namespace string `json:"namespace,omitempty"`
	Service   string `json:"service,omitempty"`
	PortName  string `json:"port_name,omitempty"`
	Client    string `json:"client,omitempty"`   // IP:port
	Endpoint  string `json:"endpoint,omitempty"` // IP:port that it is about
	Pod       string `json:"pod,omitempty"`      // of the endpoint
	Result    string `json:"result,omitempty"`   // of an attempt, or the reason of the end
	Errno     string `json:"errno,omitempty"`
	Text      string `json:"text"` // a plain sentence
	// Lost is how many events this trace was too slow for, before this one.
	Lost int `json:"lost,omitempty"`
}

// The events of a trace itself.
const (
	TraceBegin = "begin"
	TraceEnd   = "end"
)
