package udp

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epollSet waits for many files. It is itself a file that the runtime's poller
// waits for, so that no thread is blocked in it.
type epollSet struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int
	events [2 * batchSize]unix.EpollEvent
	ready  []unix.EpollEvent // of these, what the last poll has found
	err    error             // of the last poll
	polled func(uintptr) bool
}

func newEpollSet() (*epollSet, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not poll it
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	e := &epollSet{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		e.file.Close()
		return nil, err
	}
	e.polled = func(uintptr) bool { // made once, not for each wait
		e.ready, e.err = e.poll()
		return e.err != nil || len(e.ready) > 0
	}
	return e, nil
}

// wait returns the files that something can be read from. It fails when the set
// has been closed.
func (e *epollSet) wait() ([]unix.EpollEvent, error) {
	if err := e.raw.Read(e.polled); err != nil {
		return nil, err
	}
	return e.ready, e.err
}

func (e *epollSet) poll() ([]unix.EpollEvent, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), uintptr(len(e.events)), 0, 0, 0)
		switch errno {
		case 0:
			return e.events[:n], nil
		case unix.EINTR:
		default:
			return nil, os.NewSyscallError("epoll_pwait", errno)
		}
	}
}

func (e *epollSet) add(fd int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
}

// remove takes out a file that is in the set, which cannot fail.
func (e *epollSet) remove(fd int) { unix.EpollCtl(e.fd, unix.EPOLL_CTL_DEL, fd, nil) }

func (e *epollSet) close() { e.file.Close() }
