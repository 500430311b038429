package tcp

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// NoDelay has segments leave at once (TCP_NODELAY). What a listener accepts has it from the
// listener.
func NoDelay(fd int) error { return setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// Liveness says when the kernel takes a peer for gone: the connection fails with ETIMEDOUT.
// What a listener accepts has it from the listener. The zero Liveness leaves it at
// retransmissions, which the kernel gives up after a quarter of an hour (tcp_retries2).
type Liveness struct {
	KeepAlive KeepAlive
	// UserTimeout is how long a peer may leave unacknowledged what was sent to it, or have
	// no room for more; 0: any time. If there is one, it also says when a peer is gone that
	// is asked for a sign of life, and KeepAlive.Count does not (TCP_USER_TIMEOUT of
	// tcp(7); tcp_timer.c of the kernel).
	UserTimeout time.Duration
}

// KeepAlive has the kernel ask a peer for a sign of life when nothing moves (SO_KEEPALIVE of
// socket(7)). The zero KeepAlive does not.
type KeepAlive struct {
	Idle     time.Duration // without a segment of the peer, in whole seconds, before it is asked
	Interval time.Duration // until it is asked again, likewise
	Count    int           // how often until it is gone
}

// Soonest is the shortest time in which something is to be done about a peer that is
// silent; 0: none is.
func (l Liveness) Soonest() time.Duration {
	if l.KeepAlive.Idle == 0 || l.UserTimeout == 0 {
		return max(l.KeepAlive.Idle, l.UserTimeout)
	}
	return min(l.KeepAlive.Idle, l.UserTimeout)
}

// Set sets it for a socket that may be connected already. The time since the peer's last
// segment counts.
func (l Liveness) Set(fd int) error {
	if err := l.KeepAlive.set(fd); err != nil {
		return err
	}
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(l.UserTimeout.Milliseconds()))
}

func (k KeepAlive) set(fd int) error {
	if k.Idle == 0 {
		return setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval.Seconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		// Last: only then the kernel looks how long the peer has been silent.
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.Idle.Seconds())},
	} {
		if err := setInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

func setInt(fd, level, name, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, value))
}
