package iptables

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// KubeProxy is what kube-proxy, running or not, has in the tables of one backend.
type KubeProxy struct {
	Backend Backend
	// Captures says that new connections to Services pass its rules: PREROUTING or
	// OUTPUT of table nat lead to them, and there are some.
	Captures bool
	// Chains counts those of its own, Jumps the rules in others' chains that lead
	// to them.
	Chains, Jumps int
	// Kept are its chains, TABLE NAME, that Remove leaves because rules of others
	// lead to them, each with one of these rules.
	Kept map[string]string

	removal string // what iptables-restore is given
}

// String is as in "14 chains of iptables 1.8.9 (nf_tables)".
func (k KubeProxy) String() string { return fmt.Sprintf("%d chains of %v", k.Chains, k.Backend) }

// KubeProxy looks for the rules of kube-proxy, in its modes iptables and ipvs.
// Those that the kubelet makes (KUBE-FIREWALL, KUBE-MARK-DROP,
// KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT) are not kube-proxy's, and mean
// nothing. found is false if there are none.
func (b Backend) KubeProxy(ctx context.Context) (k KubeProxy, found bool, err error) {
	saved, err := b.Save(ctx)
	if err != nil {
		return KubeProxy{}, false, err
	}
	k = kubeProxyIn(saved)
	k.Backend = b
	return k, k.Chains > 0, nil
}

// Remove takes kube-proxy's chains away, and its jumps to them. Rules of others
// stay as they are, and so do the chains that they lead to (see Kept). Each table
// is changed as a whole or not at all.
func (k KubeProxy) Remove(ctx context.Context) error {
	if k.removal == "" {
		return nil
	}
	if err := k.Backend.restore(ctx, k.removal); err != nil {
		return fmt.Errorf("remove kube-proxy's rules of %v: %w", k.Backend, err)
	}
	return nil
}

// kubeProxyChains are its chains by table, without those of single Services: of
// pkg/proxy/iptables and pkg/proxy/ipvs of Kubernetes 1.36, and KUBE-PORTALS-
// of the userspace mode that ended with 1.25.
var kubeProxyChains = map[string][]string{
	nat: {
		kubeServices, kubeNodePorts, "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-PROXY-CANARY",
		"KUBE-NODE-PORT", "KUBE-LOAD-BALANCER",
		"KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST", "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST",
	},
	filter: {
		kubeServices, kubeNodePorts, "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY",
		"KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-NODEPORT-NON-LOCAL",
	},
	mangle: {"KUBE-PROXY-CANARY"},
}

const (
	kubeServices  = "KUBE-SERVICES"
	kubeNodePorts = "KUBE-NODEPORTS"
)

// kubeServiceChain are the chains of a Service or an endpoint, in table nat: a
// prefix and 16 characters of a hash in base 32.
var kubeServiceChain = regexp.MustCompile(`^KUBE-(SVC|SVL|SEP|FW|EXT|XLB)-[A-Z2-7]{16}$`)

func isKubeProxyChain(table, chain string) bool {
	return slices.Contains(kubeProxyChains[table], chain) || table == nat && kubeServiceChain.MatchString(chain)
}

// isKubeProxyJump says whether kube-proxy has written a rule that leads from a
// chain of the kernel to one of its own. It comments all of them.
func isKubeProxyJump(from, comment string) bool {
	switch from {
	case "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING":
		return strings.HasPrefix(comment, "kubernetes ") || comment == "kube-proxy firewall rules" ||
			strings.HasPrefix(comment, "handle ClusterIPs; NOTE: ") || strings.HasPrefix(comment, "handle service NodePorts; NOTE: ")
	}
	return false
}

// kubeTable is what there is in one table.
type kubeTable struct {
	name   string
	chains []string            // kube-proxy's
	jumps  []string            // to them, as iptables-save prints them
	from   map[string]bool     // where the jumps are
	leads  map[string][]string // between them
	rules  map[string]int      // in each
	kept   map[string]string   // those that rules of others lead to, with one of these rules
}

func kubeProxyIn(saved string) KubeProxy {
	k := KubeProxy{Kept: map[string]string{}}
	for _, t := range kubeTables(saved) {
		t.keep()
		k.Chains += len(t.chains)
		k.Jumps += len(t.jumps)
		for chain, rule := range t.kept {
			k.Kept[t.name+" "+chain] = rule
		}
		k.Captures = k.Captures || t.captures()
		k.removal += t.removal()
	}
	return k
}

// kubeTables reads the output of iptables-save, where all chains of a table come
// before its rules.
func kubeTables(saved string) (tables []*kubeTable) {
	t := &kubeTable{}
	for l := range strings.Lines(saved) {
		l = strings.TrimSpace(l)
		switch name, rest, _ := strings.Cut(l, " "); {
		case strings.HasPrefix(l, "*"):
			t = &kubeTable{name: l[1:], from: map[string]bool{}, leads: map[string][]string{}, rules: map[string]int{}, kept: map[string]string{}}
			tables = append(tables, t)
		case strings.HasPrefix(l, ":") && isKubeProxyChain(t.name, name[1:]):
			t.chains = append(t.chains, name[1:])
		case name == "-A":
			chain, _, _ := strings.Cut(rest, " ")
			t.add(chain, l)
		}
	}
	return tables
}

// add takes note of a rule. What kube-proxy's own chains lead to is its own, too:
// nobody else writes there, and it would write over it.
func (t *kubeTable) add(chain, rule string) {
	target, comment := "", ""
	for flag, value := range flags(rule) {
		switch flag {
		case "-j", "-g":
			target = value
		case "--comment":
			comment = value
		}
	}
	own := isKubeProxyChain(t.name, chain)
	if own {
		t.rules[chain]++
	}
	switch {
	case !isKubeProxyChain(t.name, target):
	case own:
		t.leads[chain] = append(t.leads[chain], target)
	case isKubeProxyJump(chain, comment):
		t.jumps = append(t.jumps, rule)
		if target == kubeServices || strings.HasPrefix(target, "KUBE-PORTALS-") {
			t.from[chain] = true
		}
	default:
		t.kept[target] = rule
		if target == kubeServices {
			t.from[chain] = true
		}
	}
}

// keep keeps what the kept chains lead to, or they would lead nowhere.
func (t *kubeTable) keep() {
	reached := slices.Collect(maps.Keys(t.kept))
	for len(reached) > 0 {
		chain := reached[0]
		reached = reached[1:]
		for _, to := range t.leads[chain] {
			if _, known := t.kept[to]; !known {
				t.kept[to] = t.kept[chain]
				reached = append(reached, to)
			}
		}
	}
}

func (t *kubeTable) captures() bool {
	leads := t.rules[kubeServices] > 0 || t.rules["KUBE-PORTALS-CONTAINER"] > 0 || t.rules["KUBE-PORTALS-HOST"] > 0
	return t.name == nat && leads && (t.from["PREROUTING"] || t.from["OUTPUT"])
}

// removal is the input of iptables-restore --noflush that takes the chains and
// jumps away, empty if there are none.
func (t *kubeTable) removal() string {
	gone := slices.DeleteFunc(slices.Clone(t.chains), func(chain string) bool { return t.kept[chain] != "" })
	if len(gone)+len(t.jumps) == 0 {
		return ""
	}
	var b strings.Builder
	line(&b, "*", t.name)
	for _, chain := range gone { // empties it
		line(&b, ":", chain, " - [0:0]")
	}
	for _, rule := range t.jumps {
		line(&b, "-D ", strings.TrimPrefix(rule, "-A "))
	}
	for _, chain := range gone {
		line(&b, "-X ", chain)
	}
	line(&b, "COMMIT")
	return b.String()
}
