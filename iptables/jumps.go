package iptables

import (
	"context"
	"fmt"
	"strings"
)

// jump leads from a chain of the kernel to one of ours.
type jump struct {
	table, from, to string
}

// jumps are those of all rules, in the order in which they are made: accepted
// before sent.
var jumps = []jump{
	{filter, "INPUT", inputChain},
	{nat, "PREROUTING", preroutingChain},
	{nat, "OUTPUT", outputChain},
}

// returnJump is there if packets are to be marked.
var returnJump = jump{mangle, "PREROUTING", returnChain}

// jumps returns those that the rules need, in the order in which they are made.
func (r Rules) jumps() []jump {
	if r.Returning.used() {
		return append([]jump{returnJump}, jumps...)
	}
	return jumps
}

func (j jump) String() string {
	return fmt.Sprintf("jump from %s of table %s to %s", j.from, j.table, j.to)
}

// rule returns the jump as iptables takes and prints it.
func (j jump) rule() string { return "-j " + j.to }

// line is the rule with its chain.
func (j jump) line() string { return "-A " + j.from + " " + j.rule() }

// placement is how a jump is there. It should be so once, as the first rule of
// its chain: a rule before it could take Service traffic away.
type placement struct {
	jump
	count int  // how many there are
	first bool // one is the first rule of its chain
}

// find looks for a jump. The chains of the kernel always exist, and hold few
// rules.
func (t *Table) find(ctx context.Context, j jump) (placement, error) {
	lines, err := command(ctx, "look for the "+j.String(), func() ([]string, error) {
		return t.ipt.List(j.table, j.from)
	})
	p := placement{jump: j}
	position := 0
	for _, l := range lines {
		if !strings.HasPrefix(l, "-A ") {
			continue // the policy
		}
		if l == j.line() {
			p.count++
			p.first = p.first || position == 0
		}
		position++
	}
	return p, err
}

// remove takes a jump away, however often it is there.
func (t *Table) remove(ctx context.Context, j jump) error {
	p, err := t.find(ctx, j)
	if err != nil {
		return err
	}
	for range p.count {
		_, err := command(ctx, "remove the "+j.String(), func() (struct{}, error) {
			return struct{}{}, t.ipt.Delete(j.table, j.from, "-j", j.to)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
