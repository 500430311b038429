package handover

import (
	"fmt"
	"runtime"
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

// NewFiles takes files over. What is no socket is closed, beside what else goes on as that may
// take a while (SlowToClose), and so is what is a socket for the second time.
func NewFiles(fds []int) *Files {
	f := &Files{byCookie: make(map[uint64]int, len(fds))}
	f.Add(fds)
	return f
}

// Add takes more files over, as NewFiles does.
func (f *Files) Add(fds []int) {
	cookies := cookiesOf(fds)
	f.mu.Lock()
	defer f.mu.Unlock()
	var unwanted []int
	for i, fd := range fds {
		if _, twice := f.byCookie[cookies[i]]; cookies[i] == 0 || twice {
			unwanted = append(unwanted, fd)
		} else {
			f.byCookie[cookies[i]] = fd
		}
	}
	if len(unwanted) > 0 {
		go closeAll(unwanted)
	}
}

// cookiesOf asks for many at a time: connections wait for that. 0 stands for what is no
// socket.
func cookiesOf(fds []int) []uint64 {
	cookies := make([]uint64, len(fds))
	each := max(64, (len(fds)+runtime.NumCPU()-1)/runtime.NumCPU())
	var asking sync.WaitGroup
	for from := 0; from < len(fds); from += each {
		asking.Go(func() {
			for i := from; i < min(from+each, len(fds)); i++ {
				cookies[i], _ = Cookie(fds[i])
			}
		})
	}
	asking.Wait()
	return cookies
}

// Take returns a file, which is the caller's from then on. It is there once.
func (f *Files) Take(cookie uint64) (fd int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fd, ok = f.byCookie[cookie]
	delete(f.byCookie, cookie)
	return fd, ok
}

// Has says whether a file is there that nobody has taken.
func (f *Files) Has(cookie uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.byCookie[cookie]
	return ok
}

// Len is how many nobody has taken.
func (f *Files) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byCookie)
}

// Close closes those that nobody has taken.
func (f *Files) Close() { f.CloseAllBut(nil) }

// CloseAllBut closes those that nobody has taken and that are not among the wanted.
func (f *Files) CloseAllBut(wanted map[uint64]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for cookie, fd := range f.byCookie {
		if !wanted[cookie] {
			unix.Close(fd)
			delete(f.byCookie, cookie)
		}
	}
}
