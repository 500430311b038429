package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Cleanup removes the jumps to our chains and every chain whose name begins
// with USHER-, and leaves all other rules as they are. It is idempotent, and
// takes away what a crash or another version left. What can be removed is
// removed even if some of it cannot: a chain that a rule of someone else jumps
// to, for one, which the error then names. A kernel without a mangle table is
// no error.
func (t *Table) Cleanup(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written = nil
	errs := []error{t.removeJumps(ctx)}
	for _, table := range []string{nat, filter} {
		errs = append(errs, t.removeChains(ctx, table))
	}
	errs = append(errs, t.stopMarking(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove %v rules: %w", t.family, err)
	}
	return nil
}

// removeJumps stops sending before it stops accepting.
func (t *Table) removeJumps(ctx context.Context) error {
	var errs []error
	for _, j := range slices.Backward(jumps) {
		errs = append(errs, t.remove(ctx, j))
	}
	return errors.Join(errs...)
}

func (t *Table) removeChains(ctx context.Context, table string) error {
	ours, err := t.ownedChains(ctx, table)
	if err != nil || len(ours.chains) == 0 {
		return err
	}
	if err := t.restore(ctx, removal([]section{ours})); err != nil {
		return fmt.Errorf("remove our chains of table %s: %w", table, err)
	}
	return nil
}
