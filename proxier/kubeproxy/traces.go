package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/usher-proxy/usher/iptables"
)

// ipvsLink is the interface that mode ipvs gives the addresses of Services.
const ipvsLink = "kube-ipvs0"

// Traces is what there is of kube-proxy on a node.
type Traces struct {
	// Rules are those that iptables shows, by family and backend.
	Rules []iptables.KubeProxy
	// Tables are those of nftables, as nft names them: "ip kube-proxy".
	Tables []string
	// IPVS says that there is an interface kube-ipvs0.
	IPVS bool
	// Running tells by what kube-proxy is seen to run, "" if it is not.
	Running string
	// Unseen tells what could not be looked at.
	Unseen error
}

// Find looks for kube-proxy. It changes nothing. Without CAP_NET_ADMIN it sees
// almost nothing, which Traces.Unseen then tells.
func Find(ctx context.Context) Traces {
	var t Traces
	var errs []error
	for _, b := range iptables.Backends(ctx) {
		rules, found, err := b.KubeProxy(ctx)
		errs = append(errs, err)
		if found {
			t.Rules = append(t.Rules, rules)
		}
	}
	var err error
	t.Tables, err = findTables()
	errs = append(errs, err)
	t.IPVS, err = hasIPVSLink()
	errs = append(errs, err)
	t.Running = running(ctx)
	t.Unseen = errors.Join(errs...)
	return t
}

func hasIPVSLink() (bool, error) {
	_, err := netlink.LinkByName(ipvsLink)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	return err == nil, err
}

// Any says whether there is anything for Remove.
func (t Traces) Any() bool { return len(t.Rules) > 0 || len(t.Tables) > 0 || t.IPVS }

// Capture says whether new connections to Services go where kube-proxy wants. What
// it has besides, such as chains that nothing leads to, is in nobody's way.
func (t Traces) Capture() bool {
	return len(t.Tables) > 0 || t.IPVS || slices.ContainsFunc(t.Rules, func(k iptables.KubeProxy) bool { return k.Captures })
}

// String lists what was found, as in "31 chains of iptables 1.8.9 (nf_tables), the
// nftables table ip kube-proxy".
func (t Traces) String() string {
	var found []string
	for _, k := range t.Rules {
		found = append(found, k.String())
	}
	for _, name := range t.Tables {
		found = append(found, "the nftables table "+name)
	}
	if t.IPVS {
		found = append(found, "the interface "+ipvsLink)
	}
	if len(found) == 0 {
		return "nothing"
	}
	return strings.Join(found, ", ")
}

// Stop says how to stop a kube-proxy, in one sentence.
const Stop = "stop it, in most clusters by keeping its DaemonSet in kube-system off this node, then run 'usher cleanup --kube-proxy'"

// State tells in one sentence what was found, and whether it is in use.
func (t Traces) State() string {
	switch {
	case t.Running != "" && !t.Capture() && t.Unseen != nil:
		return fmt.Sprintf("kube-proxy runs (%s), and not all of its rules can be seen", t.Running)
	case t.Running != "" && !t.Capture():
		return fmt.Sprintf("kube-proxy runs (%s), but leads no Services anywhere", t.Running)
	case t.Running != "":
		return fmt.Sprintf("kube-proxy runs (%s) and serves Services on this node: %s", t.Running, t)
	case t.Capture():
		return fmt.Sprintf("kube-proxy does not seem to run, but its rules still serve Services on this node: %s", t)
	case t.Any():
		return fmt.Sprintf("kube-proxy does not run, and what it left leads no Services anywhere: %s", t)
	}
	return "kube-proxy does not run, and has left nothing"
}

// Remedy says what to do about it, in one sentence; "" if nothing is to be done.
func (t Traces) Remedy() string {
	switch {
	case t.Running != "":
		return Stop
	case t.Any():
		return "run 'usher cleanup --kube-proxy'"
	}
	return ""
}
