package conntrack

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrUnavailable says that entries cannot be listed or deleted on this machine as
// it is: the permission (CAP_NET_ADMIN) or a part of the kernel
// (nf_conntrack_netlink) is missing. UDP clients that were there before a change
// may then be lost until they pause for longer than the kernel's UDP timeout.
var ErrUnavailable = errors.New("connection tracking cannot be changed by netlink: CAP_NET_ADMIN or the kernel module nf_conntrack_netlink is missing")

// ErrPartial says that the table has changed so much while it was read that
// entries may have been missed.
var ErrPartial = errors.New("the table changed while it was read: entries may have been missed")

// refusals are the kernel's answers before it has looked at any entry: EINVAL is
// what nfnetlink says of a subsystem that is not there.
var refusals = []error{unix.EPERM, unix.EACCES, unix.EINVAL, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT}

// explain says what an error of netlink means to the caller.
func explain(err error) error {
	refused := func(refusal error) bool { return errors.Is(err, refusal) }
	switch {
	case errors.Is(err, unix.EINTR): // as netlink.ErrDumpInterrupted is
		return fmt.Errorf("%w (%w)", ErrPartial, err)
	case slices.ContainsFunc(refusals, refused):
		return fmt.Errorf("%w (%w)", ErrUnavailable, err)
	}
	return err
}
