package handover

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ignoreHangup makes the kernel ignore SIGHUP, and returns what undoes that. Otherwise
// a second one would end the new process if it came before signal.Notify. Package
// os/signal could not give those who asked for the signal theirs back.
func ignoreHangup() (restore func()) {
	const ignore = 1 // SIG_IGN
	before, err := sigaction(&kernelSigaction{handler: ignore})
	if err != nil {
		return func() {}
	}
	return func() { sigaction(&before) }
}

// kernelSigaction begins, on every platform that usher is built for, with the handler;
// the rest differs, is shorter than this, and is only kept.
type kernelSigaction struct {
	handler uintptr
	rest    [7]uint64
}

func sigaction(now *kernelSigaction) (before kernelSigaction, err error) {
	const sigsetSize = 8
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGHUP),
		uintptr(unsafe.Pointer(now)), uintptr(unsafe.Pointer(&before)), sigsetSize, 0, 0)
	if errno != 0 {
		return before, errno
	}
	return before, nil
}
