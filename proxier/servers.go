package proxier

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/health"
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
	l = p.inheritedServer(s.what)
	if l != nil && !isAt(l.Addr(), s.addr) { // the address was changed
		l.Close()
		l = nil
	}
	if unix, ok := l.(*net.UnixListener); ok {
		l = admin.Adopt(unix, s.addr)
	}
	if l == nil {
		l, err = s.listen(ctx, s.addr)
	}
	if err == nil {
		p.servers.set(s.what, l)
	}
	return l, err
}

// listenCheck is listen for a health check of a Service.
func (p *Proxier) listenCheck(at netip.AddrPort) (l net.Listener, err error) {
	what := "health check " + at.String()
	if l = p.inheritedServer(what); l == nil {
		l, err = health.Listen(at)
	}
	if err == nil {
		p.servers.set(what, l)
	}
	return l, err
}

// inheritedServer is the socket that another process has had for something, nil if there is
// none.
func (p *Proxier) inheritedServer(what string) net.Listener {
	h := p.inheritance()
	if h == nil {
		return nil
	}
	fd, ok := h.files.Take(h.Servers[what])
	if !ok {
		return nil
	}
	file := os.NewFile(uintptr(fd), what)
	defer file.Close() // the listener has its own
	l, err := net.FileListener(file)
	if err != nil {
		return nil
	}
	return l
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
