package handover

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// SlowToClose are the files of this process that take the kernel tens of milliseconds to close:
// instances of inotify(7), whose marks are freed a grace period later, and TUN interfaces, which
// go with their file. An Exec would wait for that with everything at rest. Among the files of a
// Parcel they are closed by the next process, which need not wait.
func SlowToClose() (fds []int) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && isSlowToClose(fd) {
			fds = append(fds, fd)
		}
	}
	return fds
}

func isSlowToClose(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case 0: // anonymous: most files are sockets, and not asked for their names
		name, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		return name == "anon_inode:inotify"
	case unix.S_IFCHR:
		return st.Rdev == unix.Mkdev(10, 200) // /dev/net/tun, as the kernel's devices.txt has it
	}
	return false
}
