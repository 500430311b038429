package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vishvananda/netlink"
)

// Remove takes away what was found, and calls tell with a line about each step. What
// can be removed is removed even if some of it cannot. Rules of others stay as they
// are, with the chains of kube-proxy that they lead to. IPVS virtual servers and
// ipsets are left, as others may have made some: tell says how to look.
//
// A kube-proxy that runs would write all of it again.
func (t Traces) Remove(ctx context.Context, tell func(line string)) error {
	var errs []error
	for _, k := range t.Rules {
		if err := k.Remove(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		tell(fmt.Sprintf("%v: removed %d chains of kube-proxy and %d jumps to them", k.Backend, k.Chains-len(k.Kept), k.Jumps))
		for _, chain := range slices.Sorted(maps.Keys(k.Kept)) {
			tell(fmt.Sprintf("%v: chain %s stays, because of a rule of somebody else: %s", k.Backend, chain, k.Kept[chain]))
		}
	}
	for _, name := range t.Tables {
		if err := removeTable(name); err != nil {
			errs = append(errs, fmt.Errorf("remove the nftables table %s: %w", name, err))
			continue
		}
		tell("nftables: removed table " + name)
	}
	if t.IPVS {
		if err := removeIPVSLink(); err != nil {
			errs = append(errs, fmt.Errorf("remove the interface %s: %w", ipvsLink, err))
		} else {
			tell("ipvs: removed the interface " + ipvsLink +
				"; virtual servers and ipsets stay: see 'ipvsadm -Ln' and 'ipset list -n', and if all are kube-proxy's, run 'ipvsadm --clear' and 'ipset destroy'")
		}
	}
	return errors.Join(errs...)
}

func removeIPVSLink() error {
	link, err := netlink.LinkByName(ipvsLink)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
