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
	now := familyState{terms: r.families[family].terms}
	if err := r.read(&now, true); err != nil {
		return nil, err
	}
	want, have := there.lines(), now.there.lines()
	for _, line := range want {
		if !slices.Contains(have, line) {
			list = append(list, "missing: "+strings.TrimSpace(line))
		}
	}
	for _, line := range have {
		if !slices.Contains(want, line) {
			list = append(list, "not expected: "+strings.TrimSpace(line))
		}
	}
	return list, nil
}

// lines are the rules by priority, and then the routes by table and address.
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
	return lines
}

// describe is the route as ip route show table all prints it.
func (w way) describe(at place) string {
	kind := map[uint8]string{unix.RTN_LOCAL: "local ", unix.RTN_UNREACHABLE: "unreachable "}[w.kind]
	text := fmt.Sprintf("%s%s table %d", kind, at.dst, at.table)
	if w.iface != 0 {
		name := fmt.Sprint(w.iface)
		if i, err := net.InterfaceByIndex(w.iface); err == nil {
			name = i.Name
		}
		text += " dev " + name
	}
	if w.src.IsValid() {
		text += " src " + w.src.String()
	}
	return text
}
