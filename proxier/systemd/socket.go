package systemd

import (
	"cmp"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a message may wait for room in the manager's queue.
const patience = 5 * time.Second

// Listens says whether there is a service manager to tell anything.
func Listens() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// send sends one message with file descriptors, of which the receiver gets duplicates.
func send(message string, fds []int) error {
	if !Listens() {
		return nil
	}
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline := time.Now().Add(patience)
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err = sendmsg(conn, message, rights)
		// Too many descriptors are under way, of all processes of this user (unix(7)): the
		// manager has to read some first.
		if !errors.Is(err, unix.ETOOMANYREFS) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// sendmsg waits for room in the receiver's queue, which WriteMsgUnix cannot: it takes no
// connected socket of datagrams, and on another one nothing tells of room.
func sendmsg(conn *net.UnixConn, message string, rights []byte) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) (done bool) {
		sent = unix.Sendmsg(int(fd), []byte(message), rights, nil, unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN
	})
	return cmp.Or(err, sent)
}

// dial connects to the manager's socket: a path, or with @ a name in the abstract namespace.
func dial() (*net.UnixConn, error) {
	return net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: os.Getenv("NOTIFY_SOCKET")})
}
