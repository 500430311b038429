package transparent

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

const (
	// Table is the routing table that leads every packet to this node itself.
	// The digits spell USHER on a telephone.
	Table = 87437
	// Protocol says on rules and routes who made them (ip rule, ip route:
	// proto). No other program that is listed in rt_protos of iproute2 uses it.
	Protocol = 117
)

// The rules come after the table local, which is always first, and before
// those of network plugins: some of them route by the address of a pod, which
// is where our packets seem to go to.
const (
	skipPriority = 5 + iota
	deliverPriority
	endPriority
)

// ErrUnsupported says that this kernel cannot do it.
var ErrUnsupported = errors.New("this kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES), no transparent sockets, or not this address family")

// Routes brings packets with a mark to the sockets of this node, whatever
// address they are sent to.
type Routes struct {
	// Mark is on the packets that are replies to transparent sockets (see
	// iptables.Rules.Returning), and on no others.
	Mark iptables.Mark
}

// Ensure puts in place what is missing of the rules and the route of a family,
// takes away what a former process with another mark has left, and checks that
// nobody else uses the mark or the table. Then, if the packets are marked,
// connections can be made from the client's address. Otherwise it tells why
// not; errors.Is(err, ErrUnsupported) if it never will. What exists is left
// alone on an error: connections may depend on it.
func (r Routes) Ensure(family iptables.Family) error {
	if err := r.ensure(family); err != nil {
		return fmt.Errorf("%v endpoints cannot be connected to from the client's address: %w", family, err)
	}
	return nil
}

func (r Routes) ensure(family iptables.Family) error {
	if r.Mark.Value == 0 || r.Mark.Value&^r.Mark.Mask != 0 {
		return fmt.Errorf("the mark %s of returning packets must not be 0, and be inside its mask", markName(r.Mark))
	}
	if err := checkSockets(family); err != nil {
		return err
	}
	rules, err := listRules(family)
	if err != nil {
		return err
	}
	if err := r.checkRules(rules); err != nil {
		return err
	}
	if err := ensureRoute(family); err != nil {
		return err
	}
	return r.ensureRules(family, rules)
}

// checkRules looks for rules of others that would meet our packets, or send
// theirs to us.
func (r Routes) checkRules(rules []netlink.Rule) error {
	for _, rule := range rules {
		switch {
		case isOurs(rule):
		case rule.Table == Table:
			return fmt.Errorf("somebody else's policy routing rule with priority %d leads to table %d, which usher uses: remove it (ip rule)",
				rule.Priority, Table)
		case actsOn(rule, r.Mark):
			return fmt.Errorf("the policy routing rule with priority %d (ip rule: fwmark %s) acts on the mark %s of returning packets: choose other bits with --return-mark",
				rule.Priority, markName(markOf(rule)), markName(r.Mark))
		}
	}
	return nil
}

// ForeignRule names a policy routing rule of somebody else that treats packets
// with the mark unlike others, "" if there is none or the kernel has no policy
// routing.
func ForeignRule(mark iptables.Mark) (string, error) {
	for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		rules, err := listRules(family)
		if errors.Is(err, ErrUnsupported) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, rule := range rules {
			if !isOurs(rule) && actsOn(rule, mark) {
				return fmt.Sprintf("%d: fwmark %s lookup %d", rule.Priority, markName(markOf(rule)), rule.Table), nil
			}
		}
	}
	return "", nil
}

// actsOn says whether a rule treats packets with the mark unlike others. Their
// other bits may have any value.
func actsOn(rule netlink.Rule, m iptables.Mark) bool {
	asks := markOf(rule)
	common := asks.Mask & m.Mask
	return (m.Value^asks.Value)&common == 0 != (asks.Value&common == 0)
}

func markOf(rule netlink.Rule) iptables.Mark {
	m := iptables.Mark{Value: rule.Mark}
	if rule.Mask != nil {
		m.Mask = *rule.Mask
	}
	return m
}

func markName(m iptables.Mark) string { return fmt.Sprintf("%#x/%#x", m.Value, m.Mask) }

// rules are ours. The first and the last one leave out what this node sends
// itself ("iif lo"): such a packet never is a reply to a transparent socket,
// but reverse path filters that honour marks (src_valid_mark, rpfilter
// --validmark, firewalld's IPv6_rpfilter) ask with the mark of a reply where
// its sender is, and must not be told "on this node".
func (r Routes) rules(family iptables.Family) []netlink.Rule {
	end := newRule(family, endPriority)
	end.Type = nl.FR_ACT_NOP

	skip := newRule(family, skipPriority)
	skip.Mark, skip.Mask = r.Mark.Value, &r.Mark.Mask
	skip.IifName = "lo"
	skip.Goto = endPriority

	deliver := newRule(family, deliverPriority)
	deliver.Mark, deliver.Mask = r.Mark.Value, &r.Mark.Mask
	deliver.Table = Table
	return []netlink.Rule{end, skip, deliver}
}

func newRule(family iptables.Family, priority int) netlink.Rule {
	rule := *netlink.NewRule()
	rule.Family, rule.Priority, rule.Protocol = domain(family), priority, Protocol
	return rule
}

// isOurs tells our rules from others, whatever their mark: they say so, and
// lead to our table or nowhere.
func isOurs(rule netlink.Rule) bool {
	return rule.Protocol == Protocol && (rule.Table == Table || rule.Table == unix.RT_TABLE_UNSPEC)
}

func (r Routes) ensureRules(family iptables.Family, existing []netlink.Rule) error {
	wanted := r.rules(family)
	for _, rule := range wanted {
		if contains(existing, rule) {
			continue
		}
		if err := netlink.RuleAdd(&rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add a policy routing rule with priority %d: %w", rule.Priority, explain(err))
		}
	}
	return removeRules(existing, func(rule netlink.Rule) bool { return isOurs(rule) && !contains(wanted, rule) })
}

func contains(rules []netlink.Rule, rule netlink.Rule) bool {
	return slices.ContainsFunc(rules, func(other netlink.Rule) bool { return sameRule(rule, other) })
}

// sameRule compares what our rules differ in. The kernel does not tell the
// action of a rule that has no table.
func sameRule(a, b netlink.Rule) bool {
	return a.Protocol == b.Protocol && a.Priority == b.Priority && a.Table == b.Table && a.Goto == b.Goto &&
		a.IifName == b.IifName && markOf(a) == markOf(b)
}

func removeRules(rules []netlink.Rule, unwanted func(netlink.Rule) bool) error {
	var errs []error
	for _, rule := range rules {
		if !unwanted(rule) {
			continue
		}
		if err := netlink.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove the policy routing rule with priority %d: %w", rule.Priority, explain(err)))
		}
	}
	return errors.Join(errs...)
}

// Remove takes away all rules and routes of both families that this or a
// former process has made, whatever their mark.
func Remove() error {
	return errors.Join(remove(iptables.IPv4), remove(iptables.IPv6))
}

func remove(family iptables.Family) error {
	rules, err := listRules(family)
	if errors.Is(err, ErrUnsupported) {
		return nil // then there is nothing
	}
	if err != nil {
		return err
	}
	routes, err := listRoutes(family)
	if err != nil {
		return err
	}
	errs := []error{removeRules(rules, isOurs)}
	for _, route := range routes {
		if route.Protocol != Protocol {
			continue
		}
		if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove the %v route %v of table %d: %w", family, route.Dst, Table, explain(err)))
		}
	}
	return errors.Join(errs...)
}
