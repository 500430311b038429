package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/transparent"
)

// clientAddress looks whether sockets can have addresses of others (IP_TRANSPARENT in
// ip(7)): to connect from a client's address, and in bind capture to be a Service.
func clientAddress(ctx context.Context, n *node) Result {
	var zero iptables.Mark
	if n.mayUseIPTables() && n.Proxier.ReturnMark == zero {
		return ok("endpoints see the node's address, as --preserve-source=never asks")
	}
	what := "endpoints see the node's address, not the client's"
	if !n.mayUseIPTables() {
		what = "only Service addresses that belong to this node are served"
	}
	switch err := transparentSocket(); {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return warn("no transparent sockets without CAP_NET_ADMIN or CAP_NET_RAW: "+what, "run usher as root, or with CAP_NET_ADMIN")
	case err != nil:
		return warn(fmt.Sprintf("no transparent sockets (%v): %s", err, what), "use a kernel that has them, if that matters")
	case !n.mayUseIPTables():
		return ok("transparent sockets can be had")
	}
	table, err := iptables.New(iptables.IPv4)
	if errors.Is(err, os.ErrPermission) {
		return warn("whether endpoints can see the client's address only root can tell", asRoot)
	}
	if err != nil {
		return warn("cannot be told without iptables, see there", "see to iptables first")
	}
	if err := table.CanReturn(ctx); err != nil {
		return warn(fmt.Sprintf("%s: %s", what, oneLine(err)), "load the kernel modules xt_socket, xt_conntrack and xt_mark, or use --preserve-source=never to say that it does not matter")
	}
	return ok("transparent sockets can be had, and replies be led back to them")
}

func transparentSocket() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return transparent.Prepare(uintptr(fd))
}

// policyRouting looks whether the kernel has it (CONFIG_IP_MULTIPLE_TABLES).
func policyRouting(_ context.Context, n *node) Result {
	without := "endpoints see the node's address, not the client's"
	if !n.mayUseIPTables() {
		without = "a daemon on the wildcard address answers on Service addresses, too (AnyIP)"
	}
	missing := func(err error) Result {
		return warn(fmt.Sprintf("there is none (%v): %s", err, without), "use a kernel with CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES, if that matters")
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := netlink.RuleList(family)
		if err == nil && len(rules) == 0 {
			err = errors.New("no rules")
		}
		if err != nil && (family == unix.AF_INET || !errors.Is(err, unix.EAFNOSUPPORT)) {
			return missing(err)
		}
	}
	if n.PolicyRouting == nil {
		return ok("there are rules")
	}
	switch err := n.PolicyRouting(); {
	case errors.Is(err, os.ErrPermission):
		return warn("there are rules; whether usher can make some only root can tell", asRoot)
	case err != nil:
		return missing(err)
	}
	return ok("rules can be made and removed")
}

// rpFilter looks for a filter that drops what comes in by one of several ways out
// (rp_filter in Documentation/networking/ip-sysctl.rst). What usher itself does
// works with any.
func rpFilter(context.Context, *node) Result {
	strict, err := strictLinks()
	if err != nil {
		return warn(fmt.Sprintf("cannot be read: %v", err), "look at net.ipv4.conf.*.rp_filter, which must not be 1 where answers may leave by another interface")
	}
	ways, err := uplinks()
	if err != nil {
		return warn(fmt.Sprintf("cannot tell the default routes: %v", err), "look at net.ipv4.conf.*.rp_filter, which must not be 1 where answers may leave by another interface")
	}
	var risky []string
	for _, name := range ways {
		if slices.Contains(strict, name) {
			risky = append(risky, name)
		}
	}
	switch {
	case len(ways) > 1 && len(risky) > 0:
		return warn(fmt.Sprintf("strict on %s, and there are default routes by %s: clients are dropped whose answers would leave by another interface",
			strings.Join(risky, ", "), strings.Join(ways, ", ")), "set net.ipv4.conf.all.rp_filter to 2 (loose)")
	case len(risky) > 0:
		return ok("strict, which is no problem with one way out: " + strings.Join(ways, ", "))
	}
	return ok("in nobody's way")
}

// strictLinks are the interfaces with a strict filter: the larger of all's and their
// own value counts.
func strictLinks() (strict []string, err error) {
	all, err := sysctl("net/ipv4/conf/all/rp_filter")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(sysctlPath("net/ipv4/conf/*/rp_filter"))
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		if own, err := number(file); err == nil && name != "all" && name != "default" && max(all, own) == 1 {
			strict = append(strict, name)
		}
	}
	return strict, err
}

// uplinks are the interfaces that IPv4 default routes lead to.
func uplinks() (names []string, err error) {
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Dst: nil, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		links := []int{r.LinkIndex}
		for _, hop := range r.MultiPath {
			links = append(links, hop.LinkIndex)
		}
		for _, index := range links {
			if link, err := netlink.LinkByIndex(index); index > 0 && err == nil && !slices.Contains(names, link.Attrs().Name) {
				names = append(names, link.Attrs().Name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}
