package laststate

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// State is everything that was known at a time.
type State struct {
	AsOf     time.Time // when the API server was last known to agree
	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
	Node     *corev1.Node // the own one, nil if unknown
}

// Owner is who may use a state: the same objects mean nothing to another cluster, node or
// proxy.
type Owner struct {
	Cluster   string `json:"cluster"` // anything that is the same at each start, and no other cluster's
	Node      string `json:"node"`
	ProxyName string `json:"service_proxy_name,omitempty"` // of the Services, see source.Config
}

// differs says in what a state of another owner is foreign, "" if it is not.
func (o Owner) differs(other Owner) string {
	switch {
	case o.Cluster != other.Cluster:
		return "another cluster"
	case o.Node != other.Node:
		return fmt.Sprintf("another node, %q", other.Node)
	case o.ProxyName != other.ProxyName:
		return fmt.Sprintf("--service-proxy-name=%q", other.ProxyName)
	}
	return ""
}

// header begins a file.
type header struct {
	Owner
	AsOf time.Time `json:"as_of"`
}

// format is that of the file. It changes with the records, and when usher begins to read
// something of an object that was not kept before.
const format = 1

const firstLine = "usher last state "

// The kinds of records.
const (
	headerRecord  = 'H'
	serviceRecord = 'S'
	sliceRecord   = 'E'
	nodeRecord    = 'N'
	endRecord     = '.'
)

// The bounds of a file. 10,000 Services with 5 endpoints each take about 1 MB of it.
const (
	maxFile   = 64 << 20  // as it is
	maxStream = 512 << 20 // without compression
	maxRecord = 4 << 20   // etcd takes no object above 1.5 MiB by default
)
