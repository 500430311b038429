package proxier

import (
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

// Config is everything that a Proxier needs. All fields are required unless
// they say otherwise.
type Config struct {
	// Source is where the objects come from. OpenSource is for one that takes its time to be
	// opened: connections that were handed over go on before. Only one of them is set.
	Source     source.Source
	OpenSource func() (source.Source, error)
	// NodeName is the name of the own Node object.
	NodeName string
	Log      *logrus.Logger
	// RecordLog gets the records of connections and UDP sessions, from one goroutine;
	// nil: Log. Its output may block, that of Log had better not: see observe.Writer.
	RecordLog *logrus.Logger
	// LogErrors is how many records of one error are logged in ten seconds
	// (observe.Log.LimitErrors); 0: any number.
	LogErrors int
	// RingSize is how many records Proxier.Recent holds; 0: observe.DefaultRingSize.
	RingSize int
	// MaxSeries bounds the time series of all Service ports (observe.Metrics.Limit); 0: no
	// limit.
	MaxSeries int
	// Registry gets the metrics.
	Registry *prometheus.Registry
	// OnRecord, if set, gets every connection record; it must not block.
	OnRecord func(*observe.Record)

	// Capture is auto, iptables or bind.
	Capture string
	// KubeProxy is what becomes of the start if kube-proxy, or what it left, takes
	// the connections to Services on this node. The zero value: it is refused.
	KubeProxy KubeProxyPolicy
	// ProxyPortRange are the ports of listeners for redirected traffic.
	ProxyPortRange PortRange
	// Mark is carried by our own connections, so that iptables leaves them alone.
	Mark iptables.Mark
	// AllowLoopbackEndpoints lets bind capture dial loopback addresses. Only for
	// objects that come from files of the node's owner.
	AllowLoopbackEndpoints bool

	// AnnounceVIPs lets bind capture answer neighbours that ask by ARP or neighbour
	// discovery for load balancer and external addresses.
	AnnounceVIPs bool
	// AnyIP lets bind capture do without policy routing, as on a kernel without it.
	AnyIP bool

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

	// Service is what a Service gets that does not ask for anything else by
	// annotations.
	Service annotation.Settings
	// IgnoreAnnotations are the names, without usher-proxy.io/, of annotations that
	// Services may not use on this node.
	IgnoreAnnotations []string
	// Policies are balancer policies beside the built-in ones, by the names that
	// Service.Balancer and annotations may give. May be nil.
	Policies map[string]func() balancer.Policy

	// Cores is how many the data path is for; 0: GOMAXPROCS. It serves best if GOMAXPROCS
	// is one more (tcp.NewPollers).
	Cores int
	// MaxConnections is how many there may be in all; 0: as many as the files allow
	// that this process may open.
	MaxConnections int
	// MaxUDPSessions is how many there may be in all; 0: half of the files that this
	// process may open.
	MaxUDPSessions int

	MinSyncPeriod time.Duration // between two passes in a burst of changes
	SyncPeriod    time.Duration // between two passes when nothing changes
	DrainTimeout  time.Duration // for connections to end by themselves when stopping

	// Heartbeat, if set, is called every HeartbeatEvery by the loop that keeps all of this
	// up to date, and not while that hangs.
	Heartbeat      func()
	HeartbeatEvery time.Duration

	// HealthzAddress and MetricsAddress are host:port; empty serves none.
	HealthzAddress, MetricsAddress string
	// AdminSocket is the path of the unix socket that shows what this Proxier does;
	// empty serves none.
	AdminSocket string
	// BindHardFail makes Run fail if one of these cannot be listened on.
	BindHardFail bool
	// Profiling serves /debug/pprof with the metrics.
	Profiling bool
	// Inherited is what another process has handed over, nil if none has. It serves once.
	Inherited *Inheritance
	tables    func() map[Family]foundTable // begun to be found, nil: not yet
	// Keeper has sockets wait for the process that comes after a crash of this one; nil: they
	// end with it.
	Keeper Keeper
	// LeaveRules has Run end without taking away what it has made in the kernel: until another
	// usher serves, clients of Services are refused.
	LeaveRules bool
	// Successor takes the place of this process when it is asked for; nil: nothing can.
	Successor Successor
	// Version is what this program calls itself to those who ask. May be empty.
	Version string
	// Configz is what /configz shows, by kind. May be nil.
	Configz map[string]any
	// Settings is what the admin socket tells of configuration. May be nil.
	Settings []admin.Setting
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
