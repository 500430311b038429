package admin

import "github.com/usher-proxy/usher/proxier/outlier"

// ServicePort is one Service port in one address family, with all that the
// EndpointSlices say belongs to it: /v1/endpoints.
type ServicePort struct {
	Namespace string           `json:"namespace"`
	Service   string           `json:"service"`
	PortName  string           `json:"port_name"`
	Port      uint16           `json:"port"`     // 0 if only a NodePort is served
	Protocol  string           `json:"protocol"` // tcp or udp
	Family    string           `json:"family"`   // IPv4 or IPv6
	Balancer  string           `json:"balancer"`
	Sets      []SetStatus      `json:"sets"` // those that clients may get, by the policies of the frontends
	Endpoints []EndpointStatus `json:"endpoints"`
}

// SetStatus is a set of endpoints.
type SetStatus struct {
	Name        string `json:"name"`                  // cluster or local
	Endpoints   int    `json:"endpoints"`             // eligible ones, well or ill
	Terminating bool   `json:"terminating,omitempty"` // as no ready one is left
	Topology    string `json:"topology,omitempty"`    // the hint that they were chosen by: node or zone
}

// EndpointState says whether an endpoint gets connections.
type EndpointState string

// The states.
const (
	In  EndpointState = "in"
	Out EndpointState = "out" // but for a connection that all others have failed
)

// EndpointStatus is whether an endpoint gets connections, and why.
type EndpointStatus struct {
	Address string        `json:"address"`        // IP:port; what the EndpointSlice says, if that is not an address
	Pod     string        `json:"pod,omitempty"`  // namespace/name
	Node    string        `json:"node,omitempty"` // that it runs on
	Zone    string        `json:"zone,omitempty"`
	Weight  int           `json:"weight,omitempty"` // now, relative to those of the others; 0 if it is in no set
	Sets    []string      `json:"sets"`             // in which it is eligible, well or ill
	State   EndpointState `json:"state"`            // in if one of its sets uses it
	Why     string        `json:"why"`              // a plain sentence without its subject
	// Connections are those that last, nil for UDP.
	Connections *int `json:"connections,omitempty"`
	// Health is what connections and checks say of it, nil if it is in no set.
	Health *outlier.Status `json:"health,omitempty"`
}
