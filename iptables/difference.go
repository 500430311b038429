package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// Difference is how one chain is not as Rules want it. Its rules are told as
// iptables-save prints them: -A CHAIN ....
type Difference struct {
	// Table is nat, filter or mangle. Chain is ours, or the one of the kernel that
	// leads to it, of which only our jump is looked at.
	Table, Chain string
	// Absent says that the chain does not exist, and Needless that it is ours but
	// nothing should lead there: an earlier usher has left it.
	Absent, Needless bool
	// Missing should be there and are not, Extra are there and should not.
	Missing, Extra []string
	// Moved are there, but not in their place.
	Moved []string
}

// String tells the difference in one line.
func (d Difference) String() string {
	var what []string
	switch {
	case d.Absent:
		what = append(what, "does not exist")
	case d.Needless:
		what = append(what, "is not needed any more")
	}
	for _, list := range []struct {
		rules []string
		how   string
	}{{d.Missing, "missing"}, {d.Extra, "not expected"}, {d.Moved, "not in place"}} {
		switch len(list.rules) {
		case 0:
		case 1:
			what = append(what, fmt.Sprintf("%s: %s", list.how, list.rules[0]))
		default:
			what = append(what, fmt.Sprintf("%s: %s and %d more", list.how, list.rules[0], len(list.rules)-1))
		}
	}
	return fmt.Sprintf("table %s: chain %s: %s", d.Table, d.Chain, strings.Join(what, "; "))
}

// differences lists what changes would change.
func differences(there, wanted []section) (all []Difference) {
	for _, w := range wanted {
		all = append(all, find(there, w.table).differences(w)...)
	}
	for _, s := range there {
		if w := find(wanted, s.table); w.table == "" {
			all = append(all, s.differences(section{table: s.table})...)
		}
	}
	return all
}

func (s section) differences(wanted section) (all []Difference) {
	for _, j := range wanted.jumps {
		i := slices.IndexFunc(s.jumps, func(p placement) bool { return p.jump == j.jump })
		switch {
		case i < 0:
			all = append(all, Difference{Table: j.table, Chain: j.from, Missing: []string{j.line()}})
		case s.jumps[i] != j:
			all = append(all, s.jumps[i].difference())
		}
	}
	for _, j := range s.jumps {
		if !slices.ContainsFunc(wanted.jumps, func(p placement) bool { return p.jump == j.jump }) {
			all = append(all, Difference{Table: j.table, Chain: j.from, Extra: slices.Repeat([]string{j.line()}, j.count)})
		}
	}
	changed, gone := s.compare(wanted)
	for _, c := range changed {
		d := Difference{Table: wanted.table, Chain: c.name}
		i := slices.IndexFunc(s.chains, func(there chain) bool { return there.name == c.name })
		if d.Absent = i < 0; d.Absent {
			d.Missing = c.lines(c.rules)
		} else {
			d.Missing, d.Extra, d.Moved = c.against(s.chains[i].rules)
		}
		all = append(all, d)
	}
	for _, c := range gone {
		all = append(all, Difference{Table: wanted.table, Chain: c.name, Needless: true, Extra: c.lines(c.rules)})
	}
	return all
}

// difference tells what is wrong with a jump that is there.
func (p placement) difference() Difference {
	d := Difference{Table: p.table, Chain: p.from, Extra: slices.Repeat([]string{p.line()}, p.count-1)}
	if !p.first {
		d.Moved = []string{p.line()}
	}
	return d
}

// against compares the rules that a chain should have with those that it has.
func (c chain) against(there []string) (missing, extra, moved []string) {
	missing, stay := split(c.rules, there)
	extra, stays := split(there, c.rules)
	for i := range stay {
		if stay[i] != stays[i] {
			moved = append(moved, stay[i])
		}
	}
	return c.lines(missing), c.lines(extra), c.lines(moved)
}

// split parts a list into what is not in the other one, and the rest. What is
// in a list twice has to be in the other one twice.
func split(list, other []string) (rest, common []string) {
	count := map[string]int{}
	for _, s := range other {
		count[s]++
	}
	for _, s := range list {
		if count[s]--; count[s] >= 0 {
			common = append(common, s)
		} else {
			rest = append(rest, s)
		}
	}
	return rest, common
}

// lines are rules of the chain as iptables-save prints them.
func (c chain) lines(rules []string) (lines []string) {
	for _, rule := range rules {
		lines = append(lines, "-A "+c.name+" "+rule)
	}
	return lines
}
