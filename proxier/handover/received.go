package handover

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Received is the Parcel that this process was started with, by Exec or in a trial,
// nil if there is none. The environment does not tell of it any more afterwards, so it
// is there once. To be called before anything else starts a process.
//
// A broken one is an error, and its files are closed.
func Received() (*Parcel, error) {
	if t := inherited(); t != nil {
		return t.receive()
	}
	conn, err := takeSocket(execEnv)
	if conn == nil {
		return nil, err
	}
	p, err := open(conn)
	if err != nil {
		return nil, fmt.Errorf("hand-over by exec: %w", err)
	}
	return p, nil
}

// Open takes the Parcel out of a socket that Post has made, and closes that. It is there once,
// whoever else has the socket too.
func Open(socket int) (*Parcel, error) {
	conn, err := unixConn(socket)
	if err != nil {
		unix.Close(socket)
		return nil, err
	}
	return open(conn)
}

func open(conn *net.UnixConn) (*Parcel, error) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(postPatience)) // all of it lies there
	return Receive(conn)
}

// takeSocket takes over the socket that a variable of the environment names, and
// removes that. It is nil if there is no such variable.
func takeSocket(name string) (*net.UnixConn, error) {
	text, told := os.LookupEnv(name)
	if !told {
		return nil, nil
	}
	os.Unsetenv(name)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < firstFile {
		return nil, fmt.Errorf("%s=%q is not the number of a file: unset it", name, text)
	}
	conn, err := unixConn(fd)
	if err != nil {
		return nil, fmt.Errorf("%s=%d: %w: unset it", name, fd, err)
	}
	return conn, nil
}

// firstFile is the number of the first file after stdin, stdout and stderr.
const firstFile = 3

// unixConn takes a socket over. What is none stays as it is.
func unixConn(fd int) (*net.UnixConn, error) {
	if _, err := Cookie(fd); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	conn, err := net.FileConn(f) // a dup with FD_CLOEXEC
	if err != nil {
		return nil, err
	}
	if c, ok := conn.(*net.UnixConn); ok {
		return c, nil
	}
	conn.Close()
	return nil, fmt.Errorf("file %d is no unix socket", fd)
}
