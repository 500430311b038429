package iptables

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coreos "github.com/coreos/go-iptables/iptables"
)

// ErrUnavailable says that iptables, or what was asked of it, cannot be used on
// this machine as it is: a program, a permission or a part of the kernel is
// missing. The text of the error that wraps it tells which. Trying again is
// pointless.
// A missing permission is also fs.ErrPermission.
var ErrUnavailable = errors.New("iptables cannot be used")

const (
	// lockWait is for how many seconds a command waits for another one that
	// holds the lock of the legacy backend.
	lockWait = 5
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

	mu      sync.Mutex
	written string // what the last restore that succeeded was given
	marking marking
}

// Option changes how a Table works.
type Option func(*options)

type options struct {
	command string
	timeout time.Duration
}

// Command makes the Table use this program instead of the family's iptables or
// ip6tables in $PATH, and the iptables-restore and iptables-save of the same
// backend beside it: iptables-legacy, say, or an absolute path.
func Command(name string) Option { return func(o *options) { o.command = name } }

// Timeout bounds each run of iptables-restore and iptables-save. The default is
// 30 seconds.
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

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
	t := &Table{family: family, programs: p, ipt: ipt, exec: x, timeout: o.timeout}
	if err := t.probe(ctx); err != nil {
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
	ipt, err := coreos.New(coreos.IPFamily(protocol), coreos.Path(program), coreos.Timeout(lockWait))
	if err != nil {
		return nil, err
	}
	if !ipt.HasRandomFully() { // came with the same version, 1.6.2
		return nil, fmt.Errorf("%s is older than 1.6.2", program)
	}
	return ipt, nil
}

// Sync makes the kernel do what the rules say, and nothing else in our chains.
// It is idempotent, and cheap if the rules are those of the Sync before: then
// it only makes sure of the jumps to our chains. Invalid rules are an error
// that changes nothing; a write that the kernel refuses changes nothing of its
// table. After any error the next Sync starts from whatever is there. Where
// Rules.Returning is set and cannot work (see CanReturn), nothing is changed.
func (t *Table) Sync(ctx context.Context, r Rules) error {
	if err := r.validate(t.family); err != nil {
		return fmt.Errorf("%v rules: %w", t.family, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.sync(ctx, r); err != nil {
		return fmt.Errorf("write %v rules: %w", t.family, err)
	}
	return nil
}

// sync begins to mark before it sends anything to us, and ends marking last.
func (t *Table) sync(ctx context.Context, r Rules) error {
	if r.Returning.used() {
		if err := t.canReturn(ctx); err != nil {
			return err
		}
		t.marking.gone = false
		return t.write(ctx, r)
	}
	if err := t.write(ctx, r); err != nil {
		return err
	}
	return t.stopMarking(ctx)
}

// write fills the chains before anything jumps to them. Whoever removed a jump
// is likely to have removed the chains as well, so that is a reason to write
// them again.
func (t *Table) write(ctx context.Context, r Rules) error {
	misplaced, err := t.misplacedJumps(ctx, r.jumps())
	if err != nil {
		return err
	}
	if input := render(t.family, r); input != t.written || len(misplaced) > 0 {
		t.written = ""
		if err := t.restore(ctx, input); err != nil {
			return err
		}
		t.written = input
	}
	for _, p := range misplaced {
		if err := t.place(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
