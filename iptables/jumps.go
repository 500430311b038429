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

// placement is what was found of a jump.
type placement struct {
	jump
	count int  // how many there are
	first bool // one is the first rule of its chain
}

// misplacedJumps returns the jumps that are not exactly once in their chain, as
// its first rule. A rule before ours could take Service traffic away.
func (t *Table) misplacedJumps(ctx context.Context, jumps []jump) ([]placement, error) {
	var misplaced []placement
	for _, j := range jumps {
		p, err := t.find(ctx, j)
		if err != nil {
			return nil, err
		}
		if p.count != 1 || !p.first {
			misplaced = append(misplaced, p)
		}
	}
	return misplaced, nil
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
		if l == "-A "+j.from+" "+j.rule() {
			p.count++
			p.first = p.first || position == 0
		}
		position++
	}
	return p, err
}

// place makes a jump the first rule of its chain. One that is there but further
// down, or twice, moves in one step: a moment without it would let connections
// pass the proxy, and a position counted before could by then be someone
// else's rule.
func (t *Table) place(ctx context.Context, p placement) error {
	if p.count == 0 {
		_, err := command(ctx, "make the "+p.String(), func() (struct{}, error) {
			return struct{}{}, t.ipt.Insert(p.table, p.from, 1, "-j", p.to)
		})
		return err
	}
	if err := t.restore(ctx, p.move()); err != nil {
		return fmt.Errorf("move the %v to the first place: %w", p.jump, err)
	}
	return nil
}

// move returns the input of iptables-restore that moves a jump to the first
// place.
func (p placement) move() string {
	var b strings.Builder
	line(&b, "*", p.table)
	for range p.count {
		line(&b, "-D ", p.from, " ", p.rule())
	}
	line(&b, "-I ", p.from, " 1 ", p.rule())
	line(&b, "COMMIT")
	return b.String()
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
