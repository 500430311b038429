package iptables

import (
	"slices"
	"strings"
)

// changes returns the input of iptables-restore --noflush that makes what should
// be there of what is there, chain by chain; empty if nothing is to be done. A
// table of which nothing is wanted any more comes last: its rules let others work.
func changes(there, wanted []section) string {
	var b strings.Builder
	for _, w := range wanted {
		b.WriteString(find(there, w.table).become(w))
	}
	for _, s := range there {
		if w := find(wanted, s.table); w.table == "" {
			b.WriteString(s.become(section{table: s.table}))
		}
	}
	return b.String()
}

// find returns the section of a table, the zero section if there is none.
func find(sections []section, table string) section {
	i := slices.IndexFunc(sections, func(s section) bool { return s.table == table })
	if i < 0 {
		return section{}
	}
	return sections[i]
}

// become is the part of changes for one table. The chains that a rule leads to are
// there before it, and go after it. A jump that is there but further down, or
// twice, moves in the same step: a moment without it would let connections pass the
// proxy.
func (s section) become(wanted section) string {
	changed, gone := s.compare(wanted)
	var b strings.Builder
	line(&b, "*", wanted.table)
	empty := b.Len()
	declare(&b, changed)
	declare(&b, gone)
	fill(&b, changed)
	for _, j := range s.jumps {
		if !slices.Contains(wanted.jumps, j) {
			for range j.count {
				line(&b, "-D ", j.from, " ", j.rule())
			}
		}
	}
	for _, j := range wanted.jumps {
		if !slices.Contains(s.jumps, j) {
			line(&b, "-I ", j.from, " 1 ", j.rule())
		}
	}
	for _, c := range gone {
		if !s.borrowed[c.name] {
			line(&b, "-X ", c.name)
		}
	}
	if b.Len() == empty {
		return ""
	}
	line(&b, "COMMIT")
	return b.String()
}

// compare returns the chains that are not as wanted, and those that are not
// wanted. One that others lead to cannot go: it stays, empty.
func (s section) compare(wanted section) (changed, gone []chain) {
	there := make(map[string][]string, len(s.chains))
	for _, c := range s.chains {
		there[c.name] = c.rules
	}
	for _, c := range wanted.chains {
		if rules, ok := there[c.name]; !ok || !slices.Equal(rules, c.rules) {
			changed = append(changed, c)
		}
		delete(there, c.name)
	}
	for _, c := range s.chains {
		rules, left := there[c.name]
		if left && !(s.borrowed[c.name] && len(rules) == 0) {
			gone = append(gone, chain{c.name, rules})
		}
	}
	return changed, gone
}
