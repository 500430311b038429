package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// maxRights is how many files the kernel takes in a message (SCM_MAX_FD, unix(7)).
const maxRights = 253

// Send sends a Parcel by a unix socket of type stream. The deadline of conn holds:
// without one a peer that does not read is waited for for ever. What was begun cannot
// be finished after an error; conn is of no use then.
//
// First comes a message with the memfd, then come the files, in the Parcel's order.
func Send(conn *net.UnixConn, p Parcel) error {
	memfd, err := pack(p)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	if err := sendRights(conn, []int{memfd}); err != nil {
		return fmt.Errorf("send the parcel: %w", err)
	}
	sent := 0
	for fds := range slices.Chunk(p.Files, maxRights) {
		if err := sendRights(conn, fds); err != nil {
			return fmt.Errorf("send files, after %d of %d: %w", sent, len(p.Files), err)
		}
		sent += len(fds)
	}
	return nil
}

// sendRights sends a message. It has one byte, as files need something to go along
// with: so no message can come in parts.
func sendRights(conn *net.UnixConn, fds []int) error {
	_, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil)
	return err
}

// Receive receives what Send sends. The deadline of conn holds: without one a peer
// that stops midway is waited for for ever. All files are CLOEXEC; after an error all
// that came are closed. It reads nothing of what the peer sends afterwards. Whether
// the peer may send anything is for the caller to know (SO_PEERCRED).
func Receive(conn *net.UnixConn) (*Parcel, error) {
	memfd, err := receiveRights(conn, 1)
	if err != nil {
		return nil, fmt.Errorf("receive a parcel: %w", err)
	}
	defer closeAll(memfd)
	n, state, err := unpack(memfd[0])
	if err != nil {
		return nil, err
	}
	files, err := receiveFiles(conn, n)
	if err != nil {
		return nil, err
	}
	return &Parcel{State: state, Files: files}, nil
}

// receiveFiles receives n files.
func receiveFiles(conn *net.UnixConn, n int) (files []int, err error) {
	for len(files) < n {
		fds, err := receiveRights(conn, min(n-len(files), maxRights))
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("receive files, after %d of %d: %w", len(files), n, err)
		}
		files = append(files, fds...)
	}
	return files, nil
}

// receiveRights receives a message with n files.
func receiveRights(conn *net.UnixConn, n int) ([]int, error) {
	oob := make([]byte, unix.CmsgSpace(n*4))
	got, oobn, flags, _, err := conn.ReadMsgUnix(make([]byte, 1), oob) // sets MSG_CMSG_CLOEXEC
	switch {
	case errors.Is(err, io.EOF) || err == nil && got == 0:
		return nil, errors.New("the peer has ended the connection")
	case err != nil:
		return nil, err
	}
	fds, err := rights(oob[:oobn])
	switch {
	case err != nil:
	case len(fds) < n && flags&unix.MSG_CTRUNC != 0:
		err = errors.New("no more files can be opened: raise the limit of open files (RLIMIT_NOFILE)")
	case len(fds) != n || flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("a message with other files than the %d that were due", n)
	default:
		return fds, nil
	}
	closeAll(fds)
	return nil, err
}

func rights(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		some, err := unix.ParseUnixRights(&m)
		fds = append(fds, some...)
		if err != nil {
			return fds, err
		}
	}
	return fds, nil
}
