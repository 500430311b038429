package dial

import (
	"context"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/tcp"
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
type connect func(ctx context.Context, t tcp.Target, limit time.Time) (*tcp.Conn, error)

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
func (d *Dialer) dial(ctx context.Context, t tcp.Target, limit time.Time) (*tcp.Conn, error) {
	if d.mark != 0 || t.From.IsValid() {
		t.Prepare = func(fd int) error { return d.prepare(fd, t.From) }
	}
	return tcp.Connect(ctx, t, limit)
}

// prepare sets what a socket needs before it is bound.
func (d *Dialer) prepare(fd int, from netip.Addr) (err error) {
	if d.mark != 0 {
		err = os.NewSyscallError("setsockopt SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(d.mark)))
	}
	if err == nil && from.IsValid() {
		err = transparent.Prepare(uintptr(fd))
	}
	if err != nil {
		return setupError{err}
	}
	return nil
}
