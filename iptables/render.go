package iptables

import "strings"

// section is the part of a table that is ours: as it should be, or as it was
// found.
type section struct {
	table  string
	jumps  []placement
	chains []chain
	// borrowed are our chains that rules of others lead to.
	borrowed map[string]bool
}

// chain is one chain with its whole content.
type chain struct {
	name  string
	rules []string // each without its "-A NAME "
}

// render returns the input of iptables-restore --noflush that makes our chains
// exactly what the rules say. It is pure, and the same rules in any order give
// the same text. The rules must be valid.
func render(f Family, r Rules) string { return text(layout(f, r)) }

// text declares all chains of a table before any rule, because a jump needs its
// target. To declare a chain that exists empties it.
func text(sections []section) string {
	var b strings.Builder
	for _, s := range sections {
		line(&b, "*", s.table)
		declare(&b, s.chains)
		fill(&b, s.chains)
		line(&b, "COMMIT")
	}
	return b.String()
}

// Text is what is expected of a family, as iptables-save prints it: our chains,
// and the jumps to them, which come first in theirs. The rules must be valid for
// the family, as those that Table.Sync takes.
func (r Rules) Text(f Family) string {
	var b strings.Builder
	for _, s := range layout(f, r) {
		line(&b, "*", s.table)
		declare(&b, s.chains)
		for _, j := range s.jumps {
			line(&b, j.line())
		}
		fill(&b, s.chains)
		line(&b, "COMMIT")
	}
	return b.String()
}

func declare(b *strings.Builder, chains []chain) {
	for _, c := range chains {
		line(b, ":", c.name, " - [0:0]")
	}
}

func fill(b *strings.Builder, chains []chain) {
	for _, c := range chains {
		for _, rule := range c.rules {
			line(b, "-A ", c.name, " ", rule)
		}
	}
}

// removal returns the input of iptables-restore --noflush that removes chains
// of ours: all are emptied first, because a chain that another one jumps to
// cannot go.
func removal(sections []section) string {
	var b strings.Builder
	for _, s := range sections {
		line(&b, "*", s.table)
		declare(&b, s.chains)
		for _, c := range s.chains {
			line(&b, "-X ", c.name)
		}
		line(&b, "COMMIT")
	}
	return b.String()
}

func line(b *strings.Builder, words ...string) {
	for _, w := range words {
		b.WriteString(w)
	}
	b.WriteByte('\n')
}
