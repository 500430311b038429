package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// These name the socket by which a process gets its Parcel: one that takes over, and
// one that is in a trial.
const (
	execEnv  = "USHER_HANDOVER"
	trialEnv = "USHER_TRIAL"
)

// Exec replaces this process by the program at path, which gets the Parcel. It returns
// only if that fails, with everything as before.
//
// The first of args is the program's name, env is its whole environment. What else the
// program inherits, and what not, is in the package's documentation.
func Exec(path string, args, env []string, p Parcel) error {
	if err := checkProgram(path); err != nil {
		return err
	}
	socket, err := Post(p)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return ExecPosted(path, args, env, socket)
}

// ExecPosted is Exec of a Parcel that was posted. The socket stays the caller's.
func ExecPosted(path string, args, env []string, socket int) error {
	if err := checkProgram(path); err != nil {
		return err
	}
	env = environment(env, execEnv, socket)

	// No other child may be forked while the socket can be inherited.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if _, err := unix.FcntlInt(uintptr(socket), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("clear FD_CLOEXEC: %w", err)
	}
	defer keepFileLimit()()
	defer ignoreHangup()()
	return notExecuted(path, args, env, syscall.Exec(path, args, env))
}

// Post returns a socket, the caller's, in whose buffer a Parcel lies, for Open. Dups of the
// files are in there, so closing it takes all back; and that is two calls of the kernel for
// 253 files, where clearing FD_CLOEXEC of each would be two for one.
//
// The kernel counts files that lie in sockets, of all processes of a user together, and those
// that may have fewer of them and lack CAP_SYS_RESOURCE can send none meanwhile (unix(7):
// ETOOMANYREFS). So a Parcel is to lie there for moments.
func Post(p Parcel) (socket int, err error) {
	conn, socket, err := socketpair()
	if err != nil {
		return -1, err
	}
	defer conn.Close() // the reader sees the end
	setSendBuffer(conn)
	conn.SetDeadline(time.Now().Add(postPatience))
	if err = Send(conn, p); err == nil {
		return socket, nil
	}
	unix.Close(socket)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %d files do not fit into the buffer of a socket: raise the sysctl net.core.wmem_max", err, len(p.Files))
	}
	return -1, err
}

const (
	postPatience = time.Second // nobody reads: what does not fit now never will
	sendBuffer   = 8 << 20     // bytes, of which a message takes less than 1 KiB (253 files)
)

// setSendBuffer makes room for maxFiles if usher may (CAP_NET_ADMIN), otherwise for
// about 100,000 at net.core.wmem_max's default.
func setSendBuffer(conn *net.UnixConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
	})
}

// socketpair returns two ends of a connection, one of them for another process.
func socketpair() (ours *net.UnixConn, theirs int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	ours, err = unixConn(pair[0])
	if err != nil {
		closeAll(pair[:])
		return nil, -1, err
	}
	return ours, pair[1], nil
}

// environment is env with one variable of ours.
func environment(env []string, name string, fd int) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return strings.HasPrefix(v, execEnv+"=") || strings.HasPrefix(v, trialEnv+"=")
	})
	return append(env, name+"="+strconv.Itoa(fd))
}

// keepFileLimit returns what restores the limit of open files. syscall.Exec lowers it
// to what the process was started with, and leaves it so when it fails; a Go program
// raises it for itself when it starts.
func keepFileLimit() (restore func()) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return func() {}
	}
	return func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }
}
