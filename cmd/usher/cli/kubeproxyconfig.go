package cli

import (
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"
	"k8s.io/kube-proxy/config/v1alpha1"
	sigsyaml "sigs.k8s.io/yaml"
)

// kubeProxyFields are the fields of a KubeProxyConfiguration that mean
// something here, and the flags that they mean. In "mode.syncPeriod" the first
// word stands for the part of kube-proxy's mode (iptables unless it is ipvs or
// nftables).
var kubeProxyFields = map[string]struct {
	flag string
	// zero says that the zero value is meant; for all other fields it is the same
	// as none.
	zero bool
}{
	"clientConnection.kubeconfig":     {flag: "kubeconfig"},
	"clientConnection.contentType":    {flag: "kube-api-content-type"},
	"clientConnection.qps":            {flag: "kube-api-qps"},
	"clientConnection.burst":          {flag: "kube-api-burst"},
	"hostnameOverride":                {flag: "node-name"},
	"bindAddress":                     {flag: "node-ip"},
	"healthzBindAddress":              {flag: "healthz-bind-address"},
	"metricsBindAddress":              {flag: "metrics-bind-address"},
	"bindAddressHardFail":             {flag: "bind-address-hard-fail"},
	"enableProfiling":                 {flag: "profiling"},
	"mode":                            {flag: "proxy-mode"},
	"mode.syncPeriod":                 {flag: "sync-period"},
	"mode.minSyncPeriod":              {flag: "min-sync-period"},
	"mode.masqueradeAll":              {flag: "masquerade-all"},
	"mode.localhostNodePorts":         {flag: "iptables-localhost-nodeports", zero: true},
	"detectLocalMode":                 {flag: "detect-local-mode"},
	"detectLocal.bridgeInterface":     {flag: "pod-bridge-interface"},
	"detectLocal.interfaceNamePrefix": {flag: "pod-interface-name-prefix"},
	"clusterCIDR":                     {flag: "cluster-cidr"},
	"nodePortAddresses":               {flag: "nodeport-addresses"},
	"oomScoreAdj":                     {flag: "oom-score-adj", zero: true},
	"conntrack.maxPerCore":            {flag: "conntrack-max-per-core", zero: true},
	"conntrack.min":                   {flag: "conntrack-min", zero: true},
	"conntrack.tcpEstablishedTimeout": {flag: "conntrack-tcp-timeout-established"},
	"conntrack.tcpCloseWaitTimeout":   {flag: "conntrack-tcp-timeout-close-wait"},
	"conntrack.tcpBeLiberal":          {flag: "conntrack-tcp-be-liberal"},
	"conntrack.udpTimeout":            {flag: "conntrack-udp-timeout"},
	"conntrack.udpStreamTimeout":      {flag: "conntrack-udp-timeout-stream"},
	"logging.format":                  {flag: "log-format"},
	"logging.verbosity":               {flag: "v"},
}

// kubeProxySettings reads kube-proxy's kind of configuration file. As kube-proxy
// does, it tolerates unknown fields with a warning, and no values of the wrong
// type. What has no meaning here is kept to be named.
func kubeProxySettings(path string, root *yaml.Node, content []byte, s *settings) (all []setting, err error) {
	var misfit map[string]bool
	if strict := sigsyaml.UnmarshalStrict(content, &v1alpha1.KubeProxyConfiguration{}); strict != nil {
		misfit, err = s.misfits(path, root, strict, sigsyaml.Unmarshal(content, &v1alpha1.KubeProxyConfiguration{}))
	}
	section := "iptables"
	if mode := scalarOf(root, "mode"); mode == "ipvs" || mode == "nftables" {
		section = mode
	}
	for field, node := range leaves("", root) {
		at := place{path, node.Line, field}
		name := field
		if rest, ok := strings.CutPrefix(field, section+"."); ok {
			name = "mode." + rest
		}
		meaning, known := kubeProxyFields[name]
		values, list, ok := texts(node)
		switch {
		case misfit[field], isZero(node) && !meaning.zero, field == "apiVersion", field == "kind": // as good as absent
		case !known || !ok:
			s.without = append(s.without, withoutMeaning{field, at})
		case field == "detectLocalMode" && node.Value == "ClusterCIDR" && scalarOf(root, "clusterCIDR") == "" && s.spoken("cluster-cidr") == nil:
			s.remarks = append(s.remarks, remark{logrus.WarnLevel, fileError{at, "detectLocalMode ClusterCIDR without a clusterCIDR tells nothing: pods of this node are found by NodeCIDR"}})
		default:
			all = append(all, setting{flag: meaning.flag, values: values, list: list, place: at})
		}
	}
	return all, err
}

// leaves are the fields of a tree that hold no further fields, by their paths.
// Those without a value (null) are left out.
func leaves(prefix string, mapping *yaml.Node) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		for k, v := range pairs(mapping) {
			switch {
			case v.Kind == yaml.MappingNode:
				for field, node := range leaves(prefix+k.Value+".", v) {
					if !yield(field, node) {
						return
					}
				}
			case v.ShortTag() == "!!null":
			default:
				if !yield(prefix+k.Value, v) {
					return
				}
			}
		}
	}
}

// isZero says whether this is Go's zero value: "", 0, 0s, false or an empty list.
func isZero(n *yaml.Node) bool {
	switch n.ShortTag() {
	case "!!seq":
		return len(n.Content) == 0
	case "!!bool":
		return strings.EqualFold(n.Value, "false")
	case "!!int", "!!float":
		number, err := strconv.ParseFloat(n.Value, 64)
		return err == nil && number == 0
	}
	d, err := time.ParseDuration(n.Value)
	return n.Value == "" || err == nil && d == 0
}
