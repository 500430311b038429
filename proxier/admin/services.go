package admin

import "time"

// Service is one that is served: /v1/services.
type Service struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	Type      string            `json:"type"` // ClusterIP, NodePort or LoadBalancer
	Created   time.Time         `json:"created,omitzero"`
	Addresses []string          `json:"addresses"`          // its ClusterIPs
	External  []string          `json:"external,omitempty"` // external and load balancer addresses that are served

	// What the object asks for, as far as that is not the default.
	Affinity        string            `json:"session_affinity,omitempty"` // ClientIP, with how long
	ExternalPolicy  string            `json:"external_traffic_policy,omitempty"`
	InternalPolicy  string            `json:"internal_traffic_policy,omitempty"`
	SourceRanges    []string          `json:"source_ranges,omitempty"` // loadBalancerSourceRanges
	HealthCheckPort int32             `json:"health_check_node_port,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"` // those of usher, as they are written

	Ports []Port `json:"ports"`
}

// Port is one of a Service.
type Port struct {
	Name     string   `json:"name"`
	Port     uint16   `json:"port"`
	NodePort uint16   `json:"node_port,omitempty"`
	Protocol string   `json:"protocol"` // tcp or udp
	Balancer string   `json:"balancer"`
	Families []Family `json:"families"` // that it is served in
	Traffic  Traffic  `json:"traffic"`
}

// Family is a Service port in one address family.
type Family struct {
	Family string `json:"family"` // IPv4 or IPv6
	// Answer is what clients get: serve, refuse or silence.
	Answer    string `json:"answer"`
	Endpoints int    `json:"endpoints"` // that the EndpointSlices name
	Usable    int    `json:"usable"`    // of those: that get connections
	Ill       int    `json:"ill"`       // of those: left out for their health
}

// Traffic is what has passed a Service port since it is served. Numbers only grow, but
// for Active and Waiting. Those that are 0 most of the time are left out then: there may be
// 10,000 of these, asked for every second.
type Traffic struct {
	Active  int64  `json:"active"` // connections, or UDP sessions
	Opened  uint64 `json:"opened"`
	Closed  uint64 `json:"closed"`
	Trouble uint64 `json:"trouble,omitempty"` // of Closed: a client may have missed something
	// Failed are attempts to connect that an endpoint has failed, Retries those that came
	// after another, and Retried the connections that were saved by one.
	Failed   uint64 `json:"failed,omitempty"`
	Retries  uint64 `json:"retries,omitempty"`
	Retried  uint64 `json:"retried,omitempty"`
	Waiting  int64  `json:"waiting,omitempty"` // connections that wait for their turn at a limit
	BytesIn  uint64 `json:"bytes_in"`          // from clients, those of live connections included
	BytesOut uint64 `json:"bytes_out"`         // to clients, likewise

	// Of UDP only.
	DatagramsIn  uint64 `json:"datagrams_in,omitempty"`
	DatagramsOut uint64 `json:"datagrams_out,omitempty"`
	Dropped      uint64 `json:"dropped,omitempty"`

	// Recent is about connections that have ended within the last minute, as far as the
	// ring reaches back; null if there was none.
	Recent *RecentTraffic `json:"recent,omitempty"`
}

// RecentTraffic tells how long it took to connect to endpoints, in milliseconds.
type RecentTraffic struct {
	Connections int     `json:"connections"`
	ConnectP50  float64 `json:"connect_p50_ms"`
	ConnectP99  float64 `json:"connect_p99_ms"`
}

// TrafficNow is the Traffic of all Service ports that have had any: /v1/traffic. It is
// meant to be asked for every second or so, and compared with the answer before.
type TrafficNow struct {
	Time  time.Time     `json:"time"`
	Ports []PortTraffic `json:"ports"`
}

// PortTraffic is that of one Service port.
type PortTraffic struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	PortName  string `json:"port_name"`
	Protocol  string `json:"protocol"`
	Traffic
}

// Talk is who has talked to whom: /v1/map. The busiest edges come first.
type Talk struct {
	Seconds float64 `json:"seconds"` // that it looks back, as far as the ring reaches
	Edges   []Edge  `json:"edges"`
	More    int     `json:"more"` // edges that are left out, as there are too many
}

// Edge is what a client had with one endpoint of a Service; an empty endpoint stands for
// connections that none was found for.
type Edge struct {
	Client     string `json:"client"`               // address
	ClientPod  string `json:"client_pod,omitempty"` // namespace/name, where an EndpointSlice tells it
	ClientKind string `json:"client_kind,omitempty"`
	Namespace  string `json:"namespace"`
	Service    string `json:"service"`
	Endpoint   string `json:"endpoint,omitempty"` // IP:port
	Pod        string `json:"pod,omitempty"`
	Count      int    `json:"count"`   // connections and UDP sessions, ended or live
	Active     int    `json:"active"`  // of those: live
	Trouble    int    `json:"trouble"` // of those: a client may have missed something
	Failed     int    `json:"failed"`  // attempts on this endpoint that failed
	Bytes      int64  `json:"bytes"`   // both ways
}
