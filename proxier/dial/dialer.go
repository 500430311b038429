package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/transparent"
)

// Dialer connects to endpoints. Safe for concurrent use.
type Dialer struct {
	mark       uint32
	connect    connect
	background *background
	// Panicked is told of a panic in a function of a Call that was called in the
	// background, where the caller of Dial cannot recover from it. It is set before
	// the first Dial; nil: such a panic ends the process.
	Panicked func(value any, stack []byte)
}

// connect makes one attempt, until limit.
type connect func(ctx context.Context, from netip.Addr, to netip.AddrPort, limit time.Time) (*net.TCPConn, error)

// New returns a Dialer whose sockets have a mark (SO_MARK, which takes
// CAP_NET_ADMIN); 0 is none. It is closed when no search is to begin any more.
func New(mark uint32) *Dialer {
	d := &Dialer{mark: mark, background: newBackground()}
	d.connect = d.dial
	return d
}

// Close ends attempts that run on in the background, waits until they are gone,
// and keeps searches that hedge from beginning any. A search that is under way is
// ended by its own context. It may be called any number of times.
func (d *Dialer) Close() { d.background.close() }

// setupError is a fault in preparing a socket: it says nothing of an endpoint,
// whatever its number means for a connection.
type setupError struct{ error }

func (e setupError) Unwrap() error { return e.error }

// dial connects from an address that need not be the node's; the zero Addr
// leaves it to routing.
func (d *Dialer) dial(ctx context.Context, from netip.Addr, to netip.AddrPort, limit time.Time) (*net.TCPConn, error) {
	// Keep-alive stays at Go's default (15 s): it finds peers that are gone.
	n := net.Dialer{Deadline: limit}
	n.SetMultipathTCP(false) // MPTCP sockets cannot be spliced
	if d.mark != 0 || from.IsValid() {
		n.Control = func(_, _ string, c syscall.RawConn) error { return d.prepare(c, from) }
	}
	if from.IsValid() {
		return n.DialTCP(ctx, "tcp", netip.AddrPortFrom(from, 0), to)
	}
	// DialTCP always binds, which takes a port that no connection to another endpoint
	// can have then; connect(2) takes one per endpoint.
	conn, err := n.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// prepare sets what a socket needs before it is bound.
func (d *Dialer) prepare(c syscall.RawConn, from netip.Addr) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		if d.mark != 0 {
			err = os.NewSyscallError("setsockopt SO_MARK", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(d.mark)))
		}
		if err == nil && from.IsValid() {
			err = transparent.Prepare(fd)
		}
	})
	if err = errors.Join(controlErr, err); err != nil {
		return setupError{err}
	}
	return nil
}
