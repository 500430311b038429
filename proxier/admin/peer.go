package admin

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peer is the key of the user id at the other end of a connection.
type peer struct{}

// withPeer asks the kernel who has connected (SO_PEERCRED in unix(7)).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	cred, err := credentials(conn)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peer{}, cred.Uid)
}

// credentials are those of the process at the other end (SO_PEERCRED in unix(7)), when it has
// connected, or had the socket listen.
func credentials(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(failed, err)
}

// Process is the number of the process at the other end of a connection, 0 if that is in
// another PID namespace.
func Process(conn *net.UnixConn) int {
	cred, err := credentials(conn)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// Caller is the user id of whom an Action, or a Stream, is done for, as the kernel tells
// it; false if it is not known.
func Caller(ctx context.Context) (uid uint32, known bool) {
	uid, known = ctx.Value(peer{}).(uint32)
	return uid, known
}

// mayChange says whether a client may change something: root, and the user whom this
// process runs as. The group that may read may not.
func mayChange(ctx context.Context) bool {
	uid, known := Caller(ctx)
	return known && (uid == 0 || uid == uint32(os.Geteuid()))
}
