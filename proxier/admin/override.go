package admin

import "time"

// Drained is an endpoint that somebody keeps new connections from on this node, until
// usher restarts: /v1/drained, and the answers of POST /v1/drain and /v1/undrain.
type Drained struct {
	Endpoint  string    `json:"endpoint,omitempty"`  // IP:port, or IP for all of its ports
	Pod       string    `json:"pod,omitempty"`       // namespace/name
	Namespace string    `json:"namespace,omitempty"` // of the Services that it is drained in; empty: all
	Service   string    `json:"service,omitempty"`   // of that namespace; empty: all
	UID       uint32    `json:"uid"`                 // of who asked for it
	Since     time.Time `json:"since"`
	// Endpoints are those that EndpointSlices name now.
	Endpoints []DrainedEndpoint `json:"endpoints"`
}

// DrainedEndpoint is what is left of one in a Service port.
type DrainedEndpoint struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	PortName  string `json:"port_name"`
	Protocol  string `json:"protocol"`
	Address   string `json:"address"`
	Pod       string `json:"pod,omitempty"`
	// Connections are those that last, nil for UDP.
	Connections *int `json:"connections,omitempty"`
}

// Killed is what became of the connections that were to be ended: POST /v1/kill.
type Killed struct {
	DryRun bool               `json:"dry_run,omitempty"` // nothing was done: Killed is what would have been
	Killed []KilledConnection `json:"killed"`
	// Gone have ended by themselves before they could be, or their ids are of none.
	Gone []KilledConnection `json:"gone"`
	// Ending were told to end and have not yet.
	Ending []KilledConnection `json:"ending"`
	// More are those beyond the number that is told one by one.
	More int `json:"more"`
}

// KilledConnection is one of them; of an id that is of none, nothing else is known.
type KilledConnection struct {
	ID         string  `json:"id"`
	Namespace  string  `json:"namespace,omitempty"`
	Service    string  `json:"service,omitempty"`
	PortName   string  `json:"port_name,omitempty"`
	Client     string  `json:"client,omitempty"`   // IP:port
	Endpoint   string  `json:"endpoint,omitempty"` // IP:port
	Pod        string  `json:"pod,omitempty"`
	AgeSeconds float64 `json:"age_seconds,omitempty"`
	Reason     string  `json:"reason,omitempty"` // that it has ended with, where that is another
}
