package cli

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/usher-proxy/usher/proxier"
)

// configz is what /configz shows: the effective configuration in usher's own
// words, and in kube-proxy's for those who look for them there.
func (o *options) configz(cfg *proxier.Config) map[string]any {
	return map[string]any{
		usherGroup:     o.effective(),
		kubeProxyGroup: o.asKubeProxy(cfg.NodeName),
	}
}

// asKubeProxy says in kube-proxy's words what has a meaning here. The mode is
// that of /proxyMode.
func (o *options) asKubeProxy(nodeName string) *v1alpha1.KubeProxyConfiguration {
	bindAddress := "0.0.0.0"
	if len(o.node.ips) > 0 {
		bindAddress = o.node.ips[0]
	}
	c := &o.kernel.conntrack
	k := &v1alpha1.KubeProxyConfiguration{
		TypeMeta:            metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: kubeProxyKind},
		HostnameOverride:    nodeName,
		BindAddress:         bindAddress,
		HealthzBindAddress:  o.seen.healthz,
		MetricsBindAddress:  o.seen.metrics,
		BindAddressHardFail: o.seen.hardFail,
		EnableProfiling:     o.seen.profiling,
		Mode:                "userspace",
		IPTables: v1alpha1.KubeProxyIPTablesConfiguration{
			MasqueradeAll:      o.clients.preserveSource == "never",
			LocalhostNodePorts: ptr.To(o.frontends.localhostNodePorts),
			SyncPeriod:         metav1.Duration{Duration: o.timing.sync},
			MinSyncPeriod:      metav1.Duration{Duration: o.timing.minSync},
		},
		DetectLocalMode: v1alpha1.LocalMode(o.clients.mode),
		DetectLocal: v1alpha1.DetectLocalConfiguration{
			BridgeInterface: o.clients.bridge, InterfaceNamePrefix: o.clients.interfacePrefix,
		},
		ClusterCIDR:       strings.Join(o.clients.clusterCIDRs, ","),
		NodePortAddresses: o.frontends.nodePortAddresses,
		OOMScoreAdj:       ptr.To(int32(o.kernel.oomScoreAdj)),
		Conntrack: v1alpha1.KubeProxyConntrackConfiguration{
			MaxPerCore: ptr.To(int32(c.MaxPerCore)), Min: ptr.To(int32(c.Min)),
			TCPEstablishedTimeout: &metav1.Duration{Duration: c.TCPEstablished},
			TCPCloseWaitTimeout:   &metav1.Duration{Duration: c.TCPCloseWait},
			TCPBeLiberal:          c.TCPBeLiberal,
			UDPTimeout:            metav1.Duration{Duration: c.UDP},
			UDPStreamTimeout:      metav1.Duration{Duration: c.UDPStream},
		},
	}
	client := &k.ClientConnection
	client.Kubeconfig, client.ContentType = o.source.kubeconfig, o.source.contentType
	client.QPS, client.Burst = o.source.qps, int32(o.source.burst)
	return k
}
