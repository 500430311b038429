package iptables

import (
	"context"
	"errors"
	"fmt"
)

// marking is what a Table knows about marks of packets that return to us.
type marking struct {
	asked  bool  // the kernel has answered whether it can mark them
	answer error // nil if it can
}

// CanReturn tells whether Rules.Returning works here. If not, the error is
// ErrUnavailable: the mangle table, the match socket or conntrack (kernel
// modules xt_socket, xt_conntrack) or the target MARK is missing. Sync then
// fails with rules that set Returning, changing nothing, and works with all
// others. The kernel is asked once; after an error that is not ErrUnavailable
// the next call asks again.
func (t *Table) CanReturn(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.canReturn(ctx)
}

func (t *Table) canReturn(ctx context.Context) error {
	if t.marking.asked {
		return t.marking.answer
	}
	probe := []section{{table: mangle, chains: []chain{{probeChain, returnRules(t.family, Mark{1, 1})}}}}
	err := t.restore(ctx, text(probe)+removal(probe))
	if err != nil {
		err = fmt.Errorf("mark the packets of transparent sockets: %w", unavailable(t.family, err))
	}
	if err == nil || errors.Is(err, ErrUnavailable) {
		t.marking.asked, t.marking.answer = true, err
	}
	return err
}

// stopMarking removes what is ours from the mangle table. It asks iptables-save
// first, which passes over a table that the kernel lacks or nobody uses: every
// other command fails there, or brings the table into use.
func (t *Table) stopMarking(ctx context.Context) error {
	there, err := t.actual(ctx)
	if err == nil && find(there, mangle).table != "" {
		err = errors.Join(t.remove(ctx, returnJump), t.removeChains(ctx, mangle))
	}
	return err
}
