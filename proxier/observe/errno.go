package observe

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReasonOf is what the kernel's error of an attempt to reach an endpoint means
// (errno(3)); InternalError if it means none of these.
func ReasonOf(err error) Reason {
	switch {
	case err == nil:
		return OK
	case is(err, unix.ECONNREFUSED):
		return BackendRefused
	case is(err, unix.ECONNRESET): // it was connected to, and that was over before anybody saw it
		return BackendResetEarly
	case is(err, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.EACCES, unix.EPERM):
		return BackendUnreachable
	case is(err, unix.EMFILE, unix.ENFILE):
		return OutOfFiles
	case is(err, unix.ENOMEM, unix.ENOBUFS):
		return OutOfMemory
	case is(err, unix.EADDRNOTAVAIL, unix.EADDRINUSE):
		return OutOfPorts
	}
	return InternalError
}

func is(err error, errnos ...syscall.Errno) bool {
	for _, errno := range errnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// ErrnoName is the kernel's name of an error (ECONNREFUSED), empty if it is none of the
// kernel's.
func ErrnoName(err error) string {
	if err == nil {
		return ""
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}
