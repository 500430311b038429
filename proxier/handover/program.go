package handover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// checkProgram says what is wrong with a program before it is executed. Whoever may
// write to it gets all that usher may do: that has to be root, or who usher runs as.
func checkProgram(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s: the path of the program to execute has to be absolute", path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: install the program again", err)
	}
	stat, mode := info.Sys().(*syscall.Stat_t), info.Mode()
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	switch {
	case !mode.IsRegular():
		return fmt.Errorf("%s is a %s, not a program", path, kind(mode))
	case mode&0o111 == 0:
		return fmt.Errorf("%s is not executable (mode %04o): chmod 0755 %[1]s", path, mode.Perm())
	case mode&0o002 != 0:
		return fmt.Errorf("%s may be written by everybody (mode %04o): chmod 0755 %[1]s", path, mode.Perm())
	case mode&0o020 != 0 && stat.Gid != 0 && stat.Gid != gid:
		return fmt.Errorf("%s may be written by group %d (mode %04o): chmod 0755 %[1]s", path, stat.Gid, mode.Perm())
	case stat.Uid != 0 && stat.Uid != uid:
		return fmt.Errorf("%s is owned by user %d, neither root nor the user whom usher runs as (%d): chown root %[1]s", path, stat.Uid, uid)
	}
	return nil
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	default:
		return "device"
	}
}

// notExecuted says why execve(2) refused a program that checkProgram had nothing
// against, and what to do.
func notExecuted(path string, args, env []string, err error) error {
	var errno syscall.Errno
	errors.As(err, &errno)
	var todo string
	switch errno {
	case syscall.ENOENT:
		todo = "the interpreter or loader that it names does not exist; is it a build for this system?"
	case syscall.EACCES:
		todo = "is its file system, or that of its interpreter, mounted noexec? does a security module forbid it?"
	case syscall.ENOEXEC:
		todo = fmt.Sprintf("it is no program for linux/%s; install the right build", runtime.GOARCH)
	case syscall.ETXTBSY:
		todo = "somebody is writing to it; install programs by rename(2)"
	case syscall.E2BIG:
		todo = fmt.Sprintf("arguments and environment have %d bytes; set less in the environment", size(args)+size(env))
	case 0:
		return fmt.Errorf("execute %s: %w", path, err)
	default:
		return fmt.Errorf("execute %s: %w", path, errno)
	}
	return fmt.Errorf("execute %s: %w: %s", path, errno, todo)
}

func size(all []string) (n int) {
	for _, s := range all {
		n += len(s) + 1
	}
	return n
}
