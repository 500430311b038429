package proxier

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/outlier"
)

// Status is what can be said of a Proxier in short.
type Status struct {
	Version     string   `json:"version"` // as Config says
	Node        string   `json:"node"`
	Capture     string   `json:"capture"` // iptables or bind
	CaptureWhy  string   `json:"capture_why"`
	Families    []string `json:"families"` // that are served
	Ready       bool     `json:"ready"`    // the first complete state is being served
	Ports       int      `json:"ports"`    // Service ports that are served, once for each address family
	Connections int      `json:"connections"`
	UDPSessions int      `json:"udp_sessions"`
}

// ServicePortStatus is one Service port in one address family, with all that the
// EndpointSlices say belongs to it.
type ServicePortStatus struct {
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
	Name        Set    `json:"name"`
	Endpoints   int    `json:"endpoints"`             // eligible ones, well or ill
	Terminating bool   `json:"terminating,omitempty"` // as no ready one is left
	Topology    string `json:"topology,omitempty"`    // the hint that they were chosen by: node or zone
}

// State says whether an endpoint gets connections.
type State string

// The states.
const (
	In  State = "in"
	Out State = "out" // but for a connection that all others have failed
)

// EndpointStatus is whether an endpoint gets connections, and why.
type EndpointStatus struct {
	Address string `json:"address"`        // IP:port; what the EndpointSlice says, if that is not an address
	Pod     string `json:"pod,omitempty"`  // namespace/name
	Node    string `json:"node,omitempty"` // that it runs on
	Zone    string `json:"zone,omitempty"`
	Weight  int    `json:"weight,omitempty"` // now, relative to those of the others; 0 if it is in no set
	Sets    []Set  `json:"sets"`             // in which it is eligible, well or ill
	State   State  `json:"state"`            // in if one of its sets uses it
	Why     string `json:"why"`              // a plain sentence without its subject
	// Connections are those that last, nil for UDP.
	Connections *int `json:"connections,omitempty"`
	// Health is what connections and checks say of it, nil if it is in no set.
	Health *outlier.Status `json:"health,omitempty"`
}

// Status returns the present one. It is safe for concurrent use.
func (p *Proxier) Status() Status {
	s := Status{
		Version: p.cfg.Version, Node: p.cfg.NodeName, Capture: p.data.capture.String(), CaptureWhy: p.captureWhy,
		Connections: p.data.connections.count(), UDPSessions: p.data.packets.Len(),
	}
	for _, f := range p.data.capture.families() {
		s.Families = append(s.Families, f.String())
	}
	select {
	case <-p.ready:
		s.Ready = true
	default:
	}
	if seen := p.seen.Load(); seen != nil {
		s.Ports = len(seen.serving)
	}
	return s
}

// Endpoints tells of the endpoints of a namespace's Service; where one of the names
// is empty, of all. It is empty before the first pass, and safe for concurrent use.
func (p *Proxier) Endpoints(namespace, service string) []ServicePortStatus {
	list := []ServicePortStatus{}
	seen := p.seen.Load()
	if seen == nil {
		return list
	}
	for _, s := range seen.ports() {
		if (namespace == "" || namespace == s.key.Namespace) && (service == "" || service == s.key.Name) {
			list = append(list, newPortView(seen.desired, s).status())
		}
	}
	return list
}

// views are what the admin socket shows.
func (p *Proxier) views() map[string]admin.View {
	return map[string]admin.View{
		"/v1/status":     {Show: func(url.Values) (any, error) { return p.Status(), nil }},
		"/v1/rules":      {Show: p.showRules},
		"/v1/rules/diff": {Show: p.showRuleDifferences},
		"/v1/endpoints":  {Parameters: []string{"namespace", "service"}, Show: p.showEndpoints},
	}
}

func (p *Proxier) showEndpoints(q url.Values) (any, error) {
	namespace, service := q.Get("namespace"), q.Get("service")
	list := p.Endpoints(namespace, service)
	switch {
	case p.seen.Load() == nil:
		return nil, &admin.Error{Status: http.StatusServiceUnavailable, Message: "usher has just begun and serves nothing yet; try again"}
	case len(list) == 0 && service != "":
		return nil, &admin.Error{Status: http.StatusNotFound,
			Message: fmt.Sprintf("no %s is served on this node", serviceRef(namespace, service))}
	}
	return list, nil
}

// seen is a pass for those who ask about it from other goroutines. What it leads to
// is never changed, or is safe for concurrent use.
type seen struct {
	*desired
	serving []*listener
}

type seenPort struct {
	*listener
	*state
}

// ports are those that are served, as they are now.
func (s *seen) ports() []seenPort {
	list := make([]seenPort, 0, len(s.serving))
	for _, l := range s.serving {
		if now := l.current.Load(); now != nil {
			list = append(list, seenPort{l, now})
		}
	}
	return list
}
