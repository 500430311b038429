package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/kubeproxy"
)

func iptables4(_ context.Context, n *node) Result { return n.family(iptables.IPv4) }
func iptables6(_ context.Context, n *node) Result { return n.family(iptables.IPv6) }

// family writes and removes a rule of each kind, as usher does at its start.
func (n *node) family(f iptables.Family) Result {
	if !n.mayUseIPTables() {
		return ok("not needed with --capture=bind")
	}
	program := n.program(f)
	_, err := iptables.New(f)
	switch {
	case err == nil:
		return ok(program + " can write the rules that usher needs")
	case errors.Is(err, fs.ErrPermission):
		return warn(program+" is there; whether the kernel takes usher's rules only root can tell", asRoot)
	case !errors.Is(err, iptables.ErrUnavailable):
		return warn(fmt.Sprintf("%s did not work this time: %s", program, oneLine(err)), "try again; if it stays so, look who holds /run/xtables.lock")
	case !f.Installed():
		return n.without(f, program+" is not installed", "install the iptables package")
	}
	return n.without(f, fmt.Sprintf("%s cannot write the rules that usher needs: %s", program, oneLine(err)),
		"load the kernel modules of the tables and matches that are named, or use a kernel that has them")
}

// without tells what becomes of usher where a family cannot be used.
func (n *node) without(f iptables.Family, text, do string) Result {
	switch {
	case f == iptables.IPv6:
		return warn(text+": IPv6 is not served", do)
	case n.mustUseIPTables():
		return fail(text, do+", or use --capture=bind")
	}
	n.binds = true
	return warn(text+": usher falls back to --capture=bind", do)
}

// program is what usher uses for a family, as in "iptables 1.8.9 (nf_tables)".
func (n *node) program(f iptables.Family) string {
	for _, b := range n.backends {
		if b.Family == f && b.Default {
			return b.String()
		}
	}
	if f == iptables.IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

// backends looks for rules in both backends. Both are in force, one after the other,
// and whoever looks through one does not see the rules of the other.
func backends(ctx context.Context, n *node) Result {
	var used, names []string
	count := map[string]int{}
	for _, b := range n.backends {
		saved, err := b.Save(ctx)
		switch {
		case err != nil && !n.admin():
			return warn("which of the iptables backends have rules only root can tell", asRoot)
		case err != nil:
			return warn("not all rules can be seen: "+oneLine(err), fmt.Sprintf("look at them with the tools of %v", b))
		}
		if rules := iptables.CountRules(saved); rules > 0 {
			used = append(used, fmt.Sprintf("%d in %v", rules, b))
			count[b.Name] += rules
		}
		if b.Default {
			names = append(names, b.Name)
		}
	}
	switch {
	case len(n.backends) == 0:
		return ok("no iptables, no rules")
	case len(count) > 1:
		return warn("rules and chains are in both iptables backends: "+strings.Join(used, ", "),
			"move to one backend (update-alternatives --config iptables), and remove the rules of the other")
	case len(names) == 2 && names[0] != names[1]:
		return warn(fmt.Sprintf("iptables is of backend %s and ip6tables of %s", names[0], names[1]),
			"let both be of one backend (update-alternatives --config ip6tables)")
	case len(used) == 0:
		return ok("no rules yet; usher will write through " + strings.Join(unique(names), " and "))
	}
	for _, name := range names {
		if count[name] == 0 {
			return warn("others use another backend than usher would: "+strings.Join(used, ", "),
				"let iptables and ip6tables be of the same backend as the others' (update-alternatives --config iptables)")
		}
	}
	return ok("only one has rules and chains: " + strings.Join(used, ", "))
}

func unique(names []string) (list []string) {
	for _, name := range names {
		if len(list) == 0 || list[len(list)-1] != name {
			list = append(list, name)
		}
	}
	return list
}

// kubeProxy says what usher run will make of one.
func kubeProxy(_ context.Context, n *node) Result {
	found := n.kubeProxy
	switch policy := n.Proxier.KubeProxy; {
	case found.Unseen != nil && !found.Capture() && !n.admin():
		return warn("whether there are rules of kube-proxy only root can tell", asRoot)
	case found.Unseen != nil && !found.Capture():
		return warn("whether there are rules of kube-proxy cannot be told: "+oneLine(found.Unseen), "look for them with the programs that are named")
	case policy == proxier.BesideKubeProxy && (found.Capture() || found.Running != ""):
		return ok(found.State() + "; usher serves the other Services")
	case found.Capture() && policy == proxier.RefuseKubeProxy && n.mayUseIPTables():
		return fail(found.State(), found.Remedy()+", or give --service-proxy-name to serve other Services beside it")
	case found.Running != "" && !found.Capture():
		return warn(found.State(), kubeproxy.Stop)
	case found.Any():
		return warn(found.State(), found.Remedy())
	}
	return ok(found.State())
}
