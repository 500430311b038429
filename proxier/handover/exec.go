package handover

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// These tell a process of its Parcel: by exec it is in this file, in a trial it comes
// by this socket.
const (
	execEnv  = "USHER_HANDOVER"
	trialEnv = "USHER_TRIAL"
)

// Exec replaces this process by the program at path, which gets the Parcel. It returns
// only if that fails, with everything as before; the files are CLOEXEC again.
//
// The first of args is the program's name, env is its whole environment. What else the
// program inherits, and what not, is in the package's documentation.
func Exec(path string, args, env []string, p Parcel) error {
	if err := checkProgram(path); err != nil {
		return err
	}
	memfd, err := pack(p)
	if err != nil {
		return err
	}
	defer unix.Close(memfd)
	env = environment(env, execEnv, memfd)
	files := append(slices.Clone(p.Files), memfd)

	// No other child may be forked while files can be inherited.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	defer setCloexec(files, true)
	if err := setCloexec(files, false); err != nil {
		return err
	}
	defer keepFileLimit()()
	defer ignoreHangup()()
	return notExecuted(path, args, env, syscall.Exec(path, args, env))
}

// setCloexec says whether files are closed on exec.
func setCloexec(fds []int, on bool) error {
	flag := 0
	if on {
		flag = unix.FD_CLOEXEC
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); err != nil {
			return fmt.Errorf("set FD_CLOEXEC of file %d: %w", fd, err)
		}
	}
	return nil
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
