package proxier

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
	"github.com/usher-proxy/usher/proxier/udp"
)

// Config is everything that a Proxier needs. All fields are required unless
// they say otherwise.
type Config struct {
	Source source.Source
	// NodeName is the name of the own Node object.
	NodeName string
	Log      *logrus.Logger
	// Registry gets the metrics.
	Registry *prometheus.Registry
	// OnRecord, if set, gets every connection record; it must not block.
	OnRecord func(*observe.Record)

	// Capture is auto, iptables or bind.
	Capture string
	// ProxyPortRange are the ports of listeners for redirected traffic.
	ProxyPortRange PortRange
	// Mark is carried by our own connections, so that iptables leaves them alone.
	Mark iptables.Mark
	// AllowLoopbackEndpoints lets bind capture dial loopback addresses. Only for
	// objects that come from files of the node's owner.
	AllowLoopbackEndpoints bool

	// ReturnMark is put on packets that belong to connections which we made from
	// a client's address. The zero Mark: connections come from the node's own
	// address (--preserve-source=never).
	ReturnMark iptables.Mark

	// NodeIPs are the addresses of the node, best first; empty: those of the Node
	// object.
	NodeIPs []netip.Addr
	// LocalPods tells which clients are pods of this node.
	LocalPods LocalPods
	// NodePortAddresses are the node's addresses on which NodePorts are served.
	NodePortAddresses NodePortAddresses
	// AllowExternalIPs are the addresses that Services may claim by
	// spec.externalIPs. Empty: none.
	AllowExternalIPs []netip.Prefix

	// Balancer names the policy of every Service port.
	Balancer string
	// Policies are further policies by name. May be nil.
	Policies map[string]func() balancer.Policy

	// UDP bounds the sessions of each UDP Service port that does not say otherwise.
	UDP udp.Limits
	// MaxUDPSessions is how many there may be in all; 0: half of the files that this
	// process may open.
	MaxUDPSessions int

	Retry            Retry
	HalfCloseTimeout time.Duration // how long one half of a connection may be silent after the other closed
	MinSyncPeriod    time.Duration // between two passes in a burst of changes
	SyncPeriod       time.Duration // between two passes when nothing changes
	DrainTimeout     time.Duration // for connections to end by themselves when stopping

	// HealthzAddress and MetricsAddress are host:port; empty serves none.
	HealthzAddress, MetricsAddress string
	// BindHardFail makes Run fail if one of them cannot be listened on.
	BindHardFail bool
	// Profiling serves /debug/pprof with the metrics.
	Profiling bool
	// Configz is what /configz shows, by kind. May be nil.
	Configz map[string]any
}

// LocalPods tells which clients are pods of this node: their traffic to a
// Service with externalTrafficPolicy Local may go to any endpoint.
type LocalPods struct {
	// Mode is NodeCIDR (the pod CIDRs of the Node object), ClusterCIDR (every
	// pod of the cluster counts), BridgeInterface or InterfaceNamePrefix, as in
	// kube-proxy.
	Mode string
	// ClusterCIDRs are for mode ClusterCIDR.
	ClusterCIDRs []netip.Prefix
	// Interface is the bridge's name or the prefix of names.
	Interface string
}

// NodePortAddresses choose the node's addresses on which NodePorts are served,
// as --nodeport-addresses does.
type NodePortAddresses struct {
	// CIDRs hold the addresses. A family without any is served on all addresses,
	// unless Primary or Localhost choose some.
	CIDRs []netip.Prefix
	// Primary adds the node's InternalIP, else ExternalIP, of each family.
	Primary bool
	// Localhost adds the loopback addresses.
	Localhost bool
	// NotLocalhost leaves the loopback addresses out whatever else is chosen.
	NotLocalhost bool
}

// newPolicy returns the maker of policies of the configured name.
func (c *Config) newPolicy() (func() balancer.Policy, error) {
	if custom := c.Policies[c.Balancer]; custom != nil {
		return custom, nil
	}
	if _, err := balancer.New(c.Balancer); err != nil {
		return nil, err
	}
	return func() balancer.Policy {
		p, err := balancer.New(c.Balancer)
		if err != nil {
			panic(fmt.Sprintf("balancer.New(%q) failed after it had succeeded: %v", c.Balancer, err))
		}
		return p
	}, nil
}
