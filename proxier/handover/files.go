package handover

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Cookie is the kernel's own number of a socket (SO_COOKIE, socket(7)), the same in
// every process that has it, and never another one's: by it a state names sockets.
// What is no socket is an error.
func Cookie(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("SO_COOKIE of file %d: %w", fd, err)
	}
	return cookie, nil
}

// Files are sockets that were received, by cookie. Safe for concurrent use.
type Files struct {
	mu       sync.Mutex
	byCookie map[uint64]int
}

// NewFiles takes files over. What is no socket is closed at once, and so is what is a
// socket for the second time.
func NewFiles(fds []int) *Files {
	f := &Files{byCookie: make(map[uint64]int, len(fds))}
	for _, fd := range fds {
		cookie, err := Cookie(fd)
		if _, twice := f.byCookie[cookie]; err != nil || twice {
			unix.Close(fd)
			continue
		}
		f.byCookie[cookie] = fd
	}
	return f
}

// Take returns a file, which is the caller's from then on. It is there once.
func (f *Files) Take(cookie uint64) (fd int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fd, ok = f.byCookie[cookie]
	delete(f.byCookie, cookie)
	return fd, ok
}

// Len is how many nobody has taken.
func (f *Files) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byCookie)
}

// Close closes those that nobody has taken.
func (f *Files) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range f.byCookie {
		unix.Close(fd)
	}
	clear(f.byCookie)
}
