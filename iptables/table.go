package iptables

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	coreos "github.com/coreos/go-iptables/iptables"
)

// ErrUnavailable says that iptables, or what was asked of it, cannot be used on
// this machine as it is: a program, a permission or a part of the kernel is
// missing. The text of the error that wraps it tells which. Trying again is
// pointless.
// A missing permission is also fs.ErrPermission.
var ErrUnavailable = errors.New("iptables cannot be used")

// ErrLocked says that another program has held the lock of the legacy backend
// (/run/xtables.lock) for longer than was waited. Nothing was changed: try again.
// The nft backend has no lock; the kernel refuses a write that another one came
// before, and iptables then tries again by itself.
var ErrLocked = errors.New("the xtables lock is held by another program")

const (
	// lockWait is how long a command waits for another one that
	// holds the lock of the legacy backend.
	lockWait = 5 * time.Second
	// defaultTimeout ends what should take a second even for 10,000 Services.
	defaultTimeout = 30 * time.Second
)

// Table is what usher owns in the nat, filter and mangle tables of one address
// family. Its methods may be called from several goroutines; they take turns.
// Each works in the network namespace of the thread that calls it.
//
// Every iptables-restore and iptables-save is killed when the caller's context
// or the Table's timeout ends. The single commands of go-iptables know no
// context: one that is done is noticed before the next of them, and each waits
// at most five seconds for the lock.
type Table struct {
	family   Family
	programs programs
	ipt      *coreos.IPTables
	exec     execer
	timeout  time.Duration
	lockWait time.Duration
	commits  atomic.Uint64 // that were made, for a Witness

	mu       sync.Mutex
	written  []section // what the kernel has from us; nil: that is not known
	renderer renderer
	marking  marking
}

// Option changes how a Table works.
type Option func(*options)

type options struct {
	command string
	timeout time.Duration
	proven  bool
}

// Command makes the Table use this program instead of the family's iptables or
// ip6tables in $PATH, and the iptables-restore and iptables-save of the same
// backend beside it: iptables-legacy, say, or an absolute path.
func Command(name string) Option { return func(o *options) { o.command = name } }

// Timeout bounds each run of iptables-restore and iptables-save. The default is
// 30 seconds.
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// Proven says that another process has a Table here which works: New need not try it out.
func Proven() Option { return func(o *options) { o.proven = true } }

// New returns a Table of the family, after it has written and removed a chain
// with a rule of every kind it is going to need. If that proves iptables to be
// unusable, the error is ErrUnavailable and says what is missing. It changes
// nothing that is there, and keeps what an earlier process left (see Assigned).
func New(family Family, opts ...Option) (*Table, error) {
	return newTable(family, osExec{}, opts...)
}

func newTable(family Family, x execer, opts ...Option) (*Table, error) {
	o := options{command: family.command(), timeout: defaultTimeout}
	for _, set := range opts {
		set(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	p, err := findPrograms(ctx, x, o.command)
	if err != nil {
		return nil, unavailable(family, err)
	}
	ipt, err := newCommands(family, p.command)
	if err != nil {
		return nil, unavailable(family, err)
	}
	t := &Table{family: family, programs: p, ipt: ipt, exec: x, timeout: o.timeout, lockWait: lockWait}
	if !o.proven {
		err = t.probe(ctx)
	}
	if err != nil {
		return nil, unavailable(family, err)
	}
	return t, nil
}

// newCommands returns go-iptables on the program, if that is new enough for an
// iptables-restore that waits for the lock.
func newCommands(family Family, program string) (*coreos.IPTables, error) {
	protocol := coreos.ProtocolIPv4
	if family == IPv6 {
		protocol = coreos.ProtocolIPv6
	}
	ipt, err := coreos.New(coreos.IPFamily(protocol), coreos.Path(program), coreos.Timeout(int(lockWait/time.Second)))
	if err != nil {
		return nil, err
	}
	if !ipt.HasRandomFully() { // came with the same version, 1.6.2
		return nil, fmt.Errorf("%s is older than 1.6.2", program)
	}
	return ipt, nil
}

// Sync makes the kernel do what the rules say. It is idempotent, and writes the
// chains that the Sync before has left otherwise: nothing, and without running
// anything, if the rules are the same. What somebody else changes meanwhile is for
// Verify. Invalid rules are an error that changes nothing; a write that the kernel
// refuses changes nothing of its table. After any error, and the first time, the
// kernel is asked what is there, and everything in our chains and of our jumps that
// differs is written, whoever it is from. Where Rules.Returning is set and cannot
// work (see CanReturn), nothing is changed.
//
// ErrLocked says that somebody else is writing all the time.
func (t *Table) Sync(ctx context.Context, r Rules) error {
	return t.locked(r, "write", func() error {
		_, err := t.sync(ctx, r, t.written != nil)
		return err
	})
}

// locked runs something that needs valid rules.
func (t *Table) locked(r Rules, what string, run func() error) error {
	if err := r.validate(t.family); err != nil {
		return fmt.Errorf("%v rules: %w", t.family, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := run(); err != nil {
		return fmt.Errorf("%s %v rules: %w", what, t.family, err)
	}
	return nil
}

// sync makes the kernel do what the rules say, and tells how what was there
// differs from them. What was there is asked from the kernel unless it is known.
func (t *Table) sync(ctx context.Context, r Rules, known bool) ([]Difference, error) {
	if r.Returning.used() {
		if err := t.canReturn(ctx); err != nil {
			return nil, err
		}
	}
	wanted, there := t.renderer.layout(t.family, r), t.written
	if !known {
		var err error
		if there, err = t.settled(ctx); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.written = nil
	different := []Difference(nil)
	if !known {
		different = differences(there, wanted)
	}
	if input := changes(there, wanted); input != "" {
		if err := t.restore(ctx, input); err != nil {
			return different, err
		}
	}
	t.written = wanted
	return different, nil
}
