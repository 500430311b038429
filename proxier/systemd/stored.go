package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// File is a file descriptor that the manager has handed to this process.
type File struct {
	Name string
	FD   int // whoever takes it closes it
}

// firstFD is SD_LISTEN_FDS_START.
const firstFD = 3

// Stored returns what the manager has handed to this process (sd_listen_fds(3)): what was
// stored, in no order, and the sockets of .socket units. Programs that this process starts get
// neither them nor the variables that tell of them, so that a second call returns nothing. It
// is to be called before anything else opens files.
func Stored() (files []File, err error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, variable := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(variable)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // they were for a parent
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS=%s from the service manager is no number of files", count)
	}
	named := strings.Split(names, ":")
	for i := range n {
		f := File{FD: firstFD + i}
		if len(named) == n {
			f.Name = named[i]
		}
		if err := closeOnExec(f.FD); err != nil {
			return files, fmt.Errorf("LISTEN_FDS=%s from the service manager, but there is no file %d: %w", count, f.FD, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// closeOnExec keeps a file descriptor from programs that this process starts.
func closeOnExec(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	return err
}
