package iptables

import "context"

// Verify is Sync that trusts nothing: it asks the kernel what is there, writes
// what differs from the rules in our chains and of our jumps, and tells what that
// was, also if it could not be written. Rules of others are looked at only in that
// none may come before our jumps.
func (t *Table) Verify(ctx context.Context, r Rules) (different []Difference, err error) {
	err = t.locked(r, "verify", func() error {
		different, err = t.sync(ctx, r, false)
		return err
	})
	return different, err
}

// Diff tells what Verify would change, and changes nothing.
func (t *Table) Diff(ctx context.Context, r Rules) (different []Difference, err error) {
	err = t.locked(r, "compare", func() error {
		there, err := t.settled(ctx)
		if err == nil {
			different = differences(there, layout(t.family, r))
		}
		return err
	})
	return different, err
}
