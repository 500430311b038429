package cli

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier"
)

// nodeOptions say which node this is.
type nodeOptions struct {
	name string
	ips  []string
}

func (n *nodeOptions) define(f *pflag.FlagSet) {
	f.StringVar(&n.name, "node-name", "", "`name` of the own Node object (default: the host name, in lower case)")
	alias(f, "hostname-override", "node-name", nil)
	f.StringSliceVar(&n.ips, "node-ip", nil, "own `addresses`, the best first, one or a comma separated list (default: those of the Node object)")
	alias(f, "bind-address", "node-ip", nil)
}

func (n *nodeOptions) configure(o *options, cfg *proxier.Config) (err error) {
	if cfg.NodeName, err = n.nodeName(); err != nil {
		return err
	}
	for _, text := range n.ips {
		addr, ok := proxier.ParseAddr(text)
		switch {
		case !ok || addr.IsMulticast():
			return o.fault("node-ip", text, "want IP addresses of this node")
		case addr.IsUnspecified(): // kube-proxy's default: those of the Node object
		default:
			cfg.NodeIPs = append(cfg.NodeIPs, addr)
		}
	}
	return nil
}

// nodeName has to equal the nodeName of EndpointSlices to the letter, which is
// in lower case.
func (n *nodeOptions) nodeName() (string, error) {
	name := strings.ToLower(strings.TrimSpace(n.name))
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("find the host name: %w (give --node-name)", err)
		}
		name = strings.ToLower(host)
	}
	return name, nil
}

// ipv6 says whether IPv6 is the node's first family, as far as flags tell.
func (n *nodeOptions) ipv6() bool {
	if len(n.ips) == 0 {
		return false
	}
	addr, ok := proxier.ParseAddr(n.ips[0])
	return ok && addr.Is6()
}

// prefixes reads the CIDRs of a flag.
func (s *settings) prefixes(name string, texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		p, ok := proxier.ParsePrefix(text)
		if !ok {
			return nil, s.fault(name, text, "want CIDRs, as in 10.0.0.0/8 or fd00::/64")
		}
		all = append(all, p)
	}
	return all, nil
}
