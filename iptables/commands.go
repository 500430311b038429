package iptables

import "context"

// commandError is a command of go-iptables that failed. Its text is one line,
// unlike what go-iptables gives.
type commandError struct {
	what string
	err  error
}

func (e *commandError) Error() string { return e.what + ": " + oneLine(e.err.Error()) }
func (e *commandError) Unwrap() error { return e.err }

// command runs one command of go-iptables unless ctx is done. It stays on the
// calling goroutine: a command left to itself could still write while the next
// Sync does.
func command[T any](ctx context.Context, what string, run func() (T, error)) (result T, err error) {
	if err := ctx.Err(); err != nil {
		return result, &commandError{what, err}
	}
	if result, err = run(); err != nil {
		return result, &commandError{what, err}
	}
	return result, nil
}

// ownedChains returns the chains of ours that are in a table.
func (t *Table) ownedChains(ctx context.Context, table string) (section, error) {
	names, err := command(ctx, "list the chains of table "+table, func() ([]string, error) {
		return t.ipt.ListChains(table)
	})
	s := section{table: table}
	for _, name := range names {
		if owned(name) {
			s.chains = append(s.chains, chain{name: name})
		}
	}
	return s, err
}
