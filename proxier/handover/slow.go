package handover

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// SlowToClose are the files of this process that take the kernel tens of milliseconds to close:
// instances of inotify(7), whose marks are freed a grace period later. An Exec would wait for
// that with everything at rest. Among the files of a Parcel they are closed by the next process,
// which need not wait.
func SlowToClose() (fds []int) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		var st unix.Stat_t
		if err != nil || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != 0 {
			continue // most are sockets
		}
		if what, _ := os.Readlink("/proc/self/fd/" + name); what == "anon_inode:inotify" {
			fds = append(fds, fd)
		}
	}
	return fds
}
