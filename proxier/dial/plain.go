package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// Plain makes one connection with the Dialer's mark, from the address that routing
// chooses: tcp or udp, until ctx is done. An error that is about preparing the socket
// has no errno.
func (d *Dialer) Plain(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	var n net.Dialer
	n.SetMultipathTCP(false)
	if d.mark != 0 {
		n.Control = func(_, _ string, c syscall.RawConn) (err error) {
			failed := c.Control(func(fd uintptr) { err = d.prepare(int(fd), netip.Addr{}) })
			return errors.Join(failed, err)
		}
	}
	conn, err := n.DialContext(ctx, network, to.String())
	if ours := (setupError{}); errors.As(err, &ours) {
		return nil, errors.New(err.Error()) // its number says nothing of the endpoint
	}
	return conn, err
}
