package cli

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// frontendOptions say which addresses of Services are served, beside those that
// always are.
type frontendOptions struct {
	nodePortAddresses  []string
	localhostNodePorts bool
	allowExternalIPs   []string
}

func (fe *frontendOptions) define(f *pflag.FlagSet) {
	f.StringSliceVar(&fe.nodePortAddresses, "nodeport-addresses", nil, "own addresses on which NodePorts are served: `list` of CIDRs, primary (those of the Node object), "+
		"localhost and all; a family of which there is no CIDR is served on all its addresses, unless primary or localhost choose some (default: all)")
	f.BoolVar(&fe.localhostNodePorts, "iptables-localhost-nodeports", true, "serve NodePorts on loopback addresses too, in both families and either capture")
	f.StringSliceVar(&fe.allowExternalIPs, "allow-external-ips", nil, "`CIDRs` of the addresses that Services may have as spec.externalIPs; whoever may write a Service can take such an address (default: none)")
}

func (fe *frontendOptions) configure(o *options, cfg *proxier.Config) (err error) {
	cfg.AllowExternalIPs, err = o.prefixes("allow-external-ips", fe.allowExternalIPs)
	return errors.Join(fe.nodePorts(o, &cfg.NodePortAddresses), err)
}

func (fe *frontendOptions) nodePorts(o *options, n *proxier.NodePortAddresses) error {
	for _, text := range fe.nodePortAddresses {
		switch text = strings.TrimSpace(text); text {
		case "primary":
			n.Primary = true
		case "localhost":
			n.Localhost = true
		case "all":
			n.CIDRs = append(n.CIDRs, everywhere...)
		default:
			p, ok := proxier.ParsePrefix(text)
			if !ok {
				return o.fault("nodeport-addresses", text, "want CIDRs, primary, localhost or all")
			}
			n.CIDRs = append(n.CIDRs, p)
		}
	}
	n.NotLocalhost = !fe.localhostNodePorts
	if n.Localhost && n.NotLocalhost {
		return o.fault("nodeport-addresses", "localhost", "%s=false contradicts it", o.label("iptables-localhost-nodeports"))
	}
	return nil
}

// everywhere are the addresses of both families.
var everywhere = []netip.Prefix{
	netip.PrefixFrom(netip.IPv4Unspecified(), 0),
	netip.PrefixFrom(netip.IPv6Unspecified(), 0),
}
