package proxier

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/usher-proxy/usher/proxier/admin"
)

// servers are what is served beside Services: another process goes on with their sockets, so
// that nobody who asks is refused. It is safe for concurrent use.
type servers struct {
	mu        sync.Mutex
	listening map[string]net.Listener
}

// files are those that are listened on, by what they serve.
func (s *servers) files() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := map[string]int{}
	for what, l := range s.listening {
		if c, ok := l.(syscall.Conn); ok {
			if raw, err := c.SyscallConn(); err == nil {
				raw.Control(func(fd uintptr) { files[what] = int(fd) })
			}
		}
	}
	return files
}

func (s *servers) set(what string, l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening == nil {
		s.listening = map[string]net.Listener{}
	}
	s.listening[what] = l
}

// leave has another process have the sockets: their paths are its own now.
func (s *servers) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listening {
		admin.Leave(l)
	}
}

// listen listens at the address, with the socket that another process has had for it if
// there is one.
func (p *Proxier) listen(ctx context.Context, s *httpServer) (l net.Listener, err error) {
	if l = p.inheritedServer(s); l == nil {
		l, err = s.listen(ctx, s.addr)
	}
	if err == nil {
		p.servers.set(s.what, l)
	}
	return l, err
}

func (p *Proxier) inheritedServer(s *httpServer) net.Listener {
	h := p.heir()
	if h == nil {
		return nil
	}
	fd, ok := h.files.Take(h.Servers[s.what])
	if !ok {
		return nil
	}
	file := os.NewFile(uintptr(fd), s.what)
	defer file.Close() // the listener has its own
	l, err := net.FileListener(file)
	if err != nil {
		return nil
	}
	if isAt(l.Addr(), s.addr) {
		if unix, ok := l.(*net.UnixListener); ok {
			return admin.Adopt(unix, s.addr)
		}
		return l
	}
	l.Close() // the address was changed
	return nil
}

// isAt says whether a listener has an address as a flag gives it.
func isAt(has net.Addr, wanted string) bool {
	if has.Network() == "unix" {
		return has.String() == wanted
	}
	a, err := net.ResolveTCPAddr("tcp", wanted)
	is, ok := has.(*net.TCPAddr)
	if err != nil || !ok {
		return false
	}
	all := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	at, _ := netip.AddrFromSlice(a.IP)
	now, _ := netip.AddrFromSlice(is.IP)
	return a.Port == is.Port && (all(a.IP) && all(is.IP) || at.Unmap() == now.Unmap())
}
