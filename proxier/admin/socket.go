package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// NodeSocket is where the socket of the usher of a node is.
const NodeSocket = "/run/usher/usher.sock"

// DefaultSocket is where the socket is if nobody says otherwise: NodeSocket, for an
// ordinary user $XDG_RUNTIME_DIR/usher.sock, and nowhere ("") where there is no such
// directory.
func DefaultSocket() string {
	if os.Geteuid() == 0 {
		return NodeSocket
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "usher.sock")
	}
	return ""
}

// CheckPath says what is wrong with a path for the socket (unix(7): sun_path).
func CheckPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return errors.New("want an absolute path")
	case len(path) >= len(unix.RawSockaddrUnix{}.Path):
		return fmt.Errorf("want at most %d bytes", len(unix.RawSockaddrUnix{}.Path)-1)
	}
	return nil
}

// socket is one that is there for as long as somebody listens to it.
type socket struct {
	*net.UnixListener
	path string
	left atomic.Bool // the path is another process's now
	made fs.FileInfo
}

// Listen makes the socket, and its directory. It takes the place of one that a dead
// process has left, but not of one that is listened to.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode of the file is that of the socket before, less what the umask takes.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	s := &socket{UnixListener: l.(*net.UnixListener), path: path}
	s.SetUnlinkOnClose(false)
	if err := s.admit(); err != nil {
		s.UnixListener.Close()
		os.Remove(path)
		return nil, err
	}
	return s, nil
}

// Adopt is Listen with the socket that another process has had at the path.
func Adopt(l *net.UnixListener, path string) net.Listener {
	l.SetUnlinkOnClose(false)
	s := &socket{UnixListener: l, path: path}
	s.made, _ = os.Lstat(path) // without it the path is left as it is
	return s
}

// Leave has Close leave the path of a socket from Listen or Adopt as it is: another process
// has it.
func Leave(l net.Listener) {
	if s, ok := l.(*socket); ok {
		s.left.Store(true)
	}
}

// admit lets the owner and the group usher connect.
func (s *socket) admit() (err error) {
	if group, err := user.LookupGroup("usher"); err == nil {
		if gid, err := strconv.Atoi(group.Gid); err == nil {
			_ = os.Chown(s.path, -1, gid) // an ordinary user may not: then it is for his own group
		}
	}
	if err := os.Chmod(s.path, 0o660); err != nil {
		return err
	}
	s.made, err = os.Lstat(s.path)
	return err
}

// Close removes the socket, unless somebody has put another one in its place.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && s.made != nil && !s.left.Load() && os.SameFile(now, s.made) {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}

// removeStale makes room for a socket, or says who has it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		err = fmt.Errorf("%s is no socket", path)
	}
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("another process listens to %s", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("another process may listen to %s: %w", path, err)
}
