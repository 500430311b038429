package transparent

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

// ensureRoute makes the only route of our table: all addresses are local.
func ensureRoute(family iptables.Family) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	wanted := netlink.Route{
		Family: domain(family), Table: Table, Protocol: Protocol, Type: unix.RTN_LOCAL,
		Scope: netlink.SCOPE_HOST, LinkIndex: lo.Attrs().Index, Dst: everything(family),
	}
	routes, err := listRoutes(family)
	if err != nil {
		return err
	}
	exists := false
	for _, route := range routes {
		switch {
		case route.Protocol != Protocol:
			return fmt.Errorf("table %d, which usher uses, has a route of somebody else: %v: remove it (ip route show table %d)",
				Table, route, Table)
		case route.Type == wanted.Type && route.LinkIndex == wanted.LinkIndex && isEverything(route.Dst):
			exists = true
		}
	}
	if exists {
		return nil
	}
	if err := netlink.RouteAdd(&wanted); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add a route for all addresses to table %d: %w", Table, explain(err))
	}
	return nil
}

func everything(family iptables.Family) *net.IPNet {
	size := net.IPv4len
	if family == iptables.IPv6 {
		size = net.IPv6len
	}
	return &net.IPNet{IP: make(net.IP, size), Mask: make(net.IPMask, size)}
}

func isEverything(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}

// listRoutes returns the routes of our table.
func listRoutes(family iptables.Family) ([]netlink.Route, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	defer handle.Close()
	// So that the kernel does not send all tables for us to pick from. One that
	// is older than Linux 4.20 does.
	strict := handle.SetStrictCheck(true) == nil
	routes, err := whole(func() ([]netlink.Route, error) {
		return handle.RouteListFiltered(domain(family), &netlink.Route{Table: Table}, netlink.RT_FILTER_TABLE)
	})
	if strict && errors.Is(err, unix.ENOENT) {
		return nil, nil // no such table yet
	}
	if err != nil {
		return nil, fmt.Errorf("list the %v routes of table %d: %w", family, Table, explain(err))
	}
	return routes, nil
}

func listRules(family iptables.Family) ([]netlink.Rule, error) {
	rules, err := whole(func() ([]netlink.Rule, error) { return netlink.RuleList(domain(family)) })
	if err != nil {
		return nil, fmt.Errorf("list %v policy routing rules: %w", family, explain(err))
	}
	return rules, nil
}

// whole lists again if something has changed meanwhile, within reason.
func whole[T any](list func() ([]T, error)) (items []T, err error) {
	for range 3 {
		items, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return items, err
}
