package proxier

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/policyroute"
)

// trail finds the rules of a frontend in what iptables-save would print of ours, and
// those that lead to them.
func (r *redirect) trail(ctx context.Context, l *listener, f Frontend, _ netip.AddrPort, set Set, from clientKind) (t trail, err error) {
	family := l.key.Family
	rules, known := r.last[family]
	if !known {
		return t, nil
	}
	text := natRules(rules.Text(iptables.Family(family)))
	ways := ruleKey(l.key.ServicePort, destinationOf(l.current.Load().port, f, set)).Name
	chains := map[string]bool{}
	for _, line := range text {
		if line.isOf(ways, f) {
			t.lines, chains[line.chain] = append(t.lines, line.text), true
		}
	}
	if len(t.lines) == 0 {
		return trail{missing: []string{fmt.Sprintf("there is to be no rule for %s: its listener could not be had", f)}}, nil
	}
	found, err := r.tables[family].Diff(ctx, rules)
	if err != nil {
		return t, err
	}
	leading := leadingTo(text, chains)
	leading = slices.DeleteFunc(leading, func(l natRule) bool { return l.isNotFor(from != nodeClient) })
	for _, d := range found {
		if d.Table != "nat" || d.Needless {
			continue
		}
		if d.Absent && (chains[d.Chain] || slices.ContainsFunc(leading, func(l natRule) bool { return l.chain == d.Chain })) {
			t.missing = append(t.missing, "chain "+d.Chain)
		}
		for _, m := range d.Missing {
			if slices.Contains(t.lines, m) || slices.ContainsFunc(leading, func(l natRule) bool { return l.text == m }) {
				t.missing = append(t.missing, m)
			}
		}
	}
	return t, nil
}

// natRule is a line of iptables-save: -A CHAIN ....
type natRule struct{ chain, text string }

// natRules are those of the table nat.
func natRules(text string) (list []natRule) {
	_, nat, _ := strings.Cut(text, "*nat\n")
	nat, _, _ = strings.Cut(nat, "COMMIT\n")
	for line := range strings.Lines(nat) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			chain, _, _ := strings.Cut(rest, " ")
			list = append(list, natRule{chain, line})
		}
	}
	return list
}

// isNotFor says whether packets that came in by a device never get to the rule; if not by a
// device, the node's own.
func (r natRule) isNotFor(device bool) bool {
	if device {
		return r.chain == "OUTPUT" || r.chain == "USHER-OUTPUT"
	}
	return r.chain == "PREROUTING" || r.chain == "USHER-PREROUTING"
}

// isOf says whether the rule leads clients of a frontend to a listener of that name.
func (r natRule) isOf(name string, f Frontend) bool {
	words := strings.Fields(r.text)
	after := func(flag string) string {
		if i := slices.Index(words, flag); i >= 0 && i+1 < len(words) {
			return words[i+1]
		}
		return ""
	}
	to := ""
	if f.Addr.IsValid() {
		to = netip.PrefixFrom(f.Addr, f.Addr.BitLen()).String()
	}
	return strings.Trim(after("--comment"), `"`) == name && after("--dport") == fmt.Sprint(f.Port) && after("-d") == to
}

// leadingTo are the rules by which packets get to some chains.
func leadingTo(rules []natRule, chains map[string]bool) (list []natRule) {
	for reached := chains; len(reached) > 0; {
		before := map[string]bool{}
		for _, r := range rules {
			words := strings.Fields(r.text)
			if reached[words[len(words)-1]] && !slices.Contains(list, r) {
				list, before[r.chain] = append(list, r), true
			}
		}
		reached = before
	}
	return list
}

// trail finds the policy rules and routes of an address. What has the node's own address,
// or one of the loopback network, needs none.
func (b *bind) trail(_ context.Context, l *listener, _ Frontend, vip netip.AddrPort, _ Set, _ clientKind) (t trail, err error) {
	if b.node == nil || !b.isRouted(vip.Addr(), b.node) {
		return t, nil
	}
	family := policyroute.Family(l.key.Family)
	for line := range strings.Lines(b.router.Text(family)) {
		if line = strings.TrimSpace(line); leadsTo(line, vip, l.key.Protocol) {
			t.lines = append(t.lines, line)
		}
	}
	found, err := b.router.Differences(family)
	for _, d := range found {
		if line, missing := strings.CutPrefix(d, "missing: "); missing && slices.Contains(t.lines, line) {
			t.missing = append(t.missing, line)
		}
	}
	if len(t.lines) == 0 && err == nil {
		t.missing = []string{"there is to be no route to " + vip.Addr().String() + ": the kernel did not take it"}
	}
	return t, err
}

// leadsTo says whether a line of ip rule or ip route is about an address and port: the
// routes tell the address, and the rules the port.
func leadsTo(line string, vip netip.AddrPort, protocol string) bool {
	words := strings.Fields(line)
	if slices.Contains(words, "from") {
		i := slices.Index(words, "dport")
		return i >= 0 && words[i+1] == fmt.Sprint(vip.Port()) && slices.Contains(words, protocol)
	}
	return slices.Contains(words, vip.Addr().String())
}
