package proxier

import (
	"context"
	"fmt"

	"github.com/usher-proxy/usher/proxier/kubeproxy"
)

// KubeProxyPolicy is what becomes of the start beside a kube-proxy.
type KubeProxyPolicy int

const (
	// RefuseKubeProxy does not start with iptables capture: two proxies would serve
	// the same Services.
	RefuseKubeProxy KubeProxyPolicy = iota
	// BesideKubeProxy starts: the two serve different Services.
	BesideKubeProxy
	// IgnoreKubeProxy starts, and warns.
	IgnoreKubeProxy
)

// besideKubeProxy says what there is of kube-proxy, and refuses if that is what
// was asked for. With bind capture it only warns: loopback addresses are served
// whatever kube-proxy does, and where there is no netfilter there is nothing of it.
func (p *Proxier) besideKubeProxy(ctx context.Context, c capture) error {
	found := kubeproxy.Find(ctx)
	log := p.cfg.Log
	if found.Unseen != nil && c.String() == "iptables" {
		log.WithError(found.Unseen).Warn("cannot look for all that kube-proxy may have on this node")
	}
	switch {
	case !found.Capture():
		return nil
	case p.cfg.KubeProxy == BesideKubeProxy:
		log.Infof("%s; usher serves the other Services", found.State())
	case p.cfg.KubeProxy == IgnoreKubeProxy:
		log.Warnf("%s; usher starts nevertheless, and its rules come first unless kube-proxy's are in nftables", found.State())
	case c.String() != "iptables":
		log.Warnf("%s: it may get connections before usher does; %s", found.State(), found.Remedy())
	default:
		return fmt.Errorf("%s; %s, or serve only Services with a label beside it (--service-proxy-name), or start nevertheless (--with-kube-proxy)",
			found.State(), found.Remedy())
	}
	return nil
}
