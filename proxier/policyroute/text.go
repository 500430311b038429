package policyroute

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Text is what the kernel should have of a family since the last Sync, much as ip rule
// and ip route print it; "" if that is not known.
func (r *Router) Text(family Family) string {
	there := r.families[family].there
	if there == nil {
		return ""
	}
	return strings.Join(there.lines(), "")
}

// Differences tells what the kernel has more or less than that, and changes nothing.
func (r *Router) Differences(family Family) (list []string, err error) {
	there := r.families[family].there
	if there == nil {
		return nil, nil
	}
	now := familyState{terms: r.families[family].terms, there: there}
	err = r.read(&now, true)
	return now.drift, err
}

// differences are what have has less and more than p.
func (p plan) differences(have plan) (list []string) {
	for _, line := range p.without(have).lines() {
		list = append(list, "missing: "+strings.TrimSpace(line))
	}
	for _, line := range have.without(p).lines() {
		list = append(list, "not expected: "+strings.TrimSpace(line))
	}
	return list
}

// without is what p has and q has not, or otherwise.
func (p plan) without(q plan) plan {
	left := plan{rules: map[rule]bool{}, routes: map[place]way{}, proxied: map[proxied]bool{}}
	for r := range p.rules {
		if !q.rules[r] {
			left.rules[r] = true
		}
	}
	maps.Insert(left.routes, differing(p.routes, q.routes))
	for at, ours := range p.proxied {
		if _, has := q.proxied[at]; ours && !has {
			left.proxied[at] = true
		}
	}
	return left
}

// lines are the rules by priority, the routes by table and address, and what is announced.
func (p plan) lines() (lines []string) {
	for _, r := range inOrder(p.rules) {
		lines = append(lines, r.String()+"\n")
	}
	places := slices.SortedFunc(maps.Keys(p.routes), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.table, b.table), a.dst.Compare(b.dst))
	})
	for _, at := range places {
		lines = append(lines, p.routes[at].describe(at)+"\n")
	}
	entries := slices.SortedFunc(maps.Keys(p.proxied), func(a, b proxied) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.iface, b.iface))
	})
	for _, at := range entries {
		if p.proxied[at] {
			lines = append(lines, at.String()+"\n")
		}
	}
	return lines
}

// describe is the route as ip route show table all prints it.
func (w way) describe(at place) string {
	kind := map[uint8]string{unix.RTN_LOCAL: "local ", unix.RTN_UNREACHABLE: "unreachable "}[w.kind]
	text := fmt.Sprintf("%s%s table %d", kind, at.dst, at.table)
	if w.iface != 0 {
		text += " dev " + nameOf(w.iface)
	}
	if w.src.IsValid() {
		text += " src " + w.src.String()
	}
	return text
}

// String is the entry as ip neigh show proxy prints it.
func (p proxied) String() string {
	return fmt.Sprintf("%s dev %s proxy", p.addr, nameOf(p.iface))
}

// nameOf is an interface's name, or its index where it is gone.
func nameOf(iface int) string {
	if i, err := net.InterfaceByIndex(iface); err == nil {
		return i.Name
	}
	return fmt.Sprint(iface)
}
