package iptables

import (
	"context"
	"slices"
	"strings"
)

// actual reads what is there of ours.
func (t *Table) actual(ctx context.Context) ([]section, error) {
	saved, err := t.save(ctx)
	return parseSaved(saved), err
}

// settled is actual without the chain of a New that another process of usher may be in: to
// remove that would have it fail.
func (t *Table) settled(ctx context.Context) ([]section, error) {
	all, err := t.actual(ctx)
	for i := range all {
		all[i].chains = slices.DeleteFunc(all[i].chains, func(c chain) bool { return c.name == probeChain })
	}
	return all, err
}

// parseSaved reads what is ours in the output of iptables-save: our chains, and
// the jumps to them. A table without either is left out.
func parseSaved(saved string) []section {
	var all []section
	for part := range strings.SplitSeq("\n"+saved, "\n*") {
		table, rest, _ := strings.Cut(part, "\n")
		if !slices.Contains([]string{nat, filter, mangle}, table) || !strings.Contains(rest, chainPrefix) {
			continue
		}
		if s := parseTable(table, rest); len(s.chains)+len(s.jumps) > 0 {
			all = append(all, s)
		}
	}
	return all
}

func parseTable(table, text string) section {
	s := section{table: table, borrowed: map[string]bool{}}
	ours, position := map[string]int{}, map[string]int{}
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if name, ok := strings.CutPrefix(l, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			if owned(name) {
				ours[name] = len(s.chains)
				s.chains = append(s.chains, chain{name: name})
			}
			continue
		}
		name, rule, ok := strings.Cut(strings.TrimPrefix(l, "-A "), " ")
		if !ok || !strings.HasPrefix(l, "-A ") {
			continue
		}
		if i, ok := ours[name]; ok {
			s.chains[i].rules = append(s.chains[i].rules, rule)
			continue
		}
		position[name]++
		if strings.Contains(rule, chainPrefix) && !s.addJump(name, rule, position[name] == 1) {
			s.borrowed[leadsTo(rule)] = true
		}
	}
	return s
}

// addJump takes a rule of a chain that is not ours, if it is one of our jumps.
func (s *section) addJump(from, rule string, first bool) bool {
	for _, j := range append(slices.Clone(jumps), returnJump) {
		if j.table != s.table || j.from != from || j.rule() != rule {
			continue
		}
		i := slices.IndexFunc(s.jumps, func(p placement) bool { return p.jump == j })
		if i < 0 {
			i = len(s.jumps)
			s.jumps = append(s.jumps, placement{jump: j})
		}
		s.jumps[i].count++
		s.jumps[i].first = s.jumps[i].first || first
		return true
	}
	return false
}

// leadsTo is the chain, or the target, of a rule.
func leadsTo(rule string) string {
	for flag, value := range flags(rule) {
		if flag == "-j" || flag == "-g" {
			return value
		}
	}
	return ""
}
