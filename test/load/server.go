package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// serve calls handle for each connection to a pod's port in a goroutine of its own, by both
// families, until the test ends. The first line that a client says is an argument.
func serve(t testing.TB, pod *netns.Pod, port uint16, handle func(line string, from *bufio.Reader, c *net.TCPConn)) {
	t.Helper()
	s := &server{handle: handle, conns: map[net.Conn]bool{}}
	t.Cleanup(s.end)
	for _, at := range []netip.AddrPort{pod.AddrPort4(port), pod.AddrPort6(port)} {
		l := pod.Listen("tcp", at) // and closed before s ends
		s.all.Go(func() { s.accept(l) })
	}
}

type server struct {
	handle func(string, *bufio.Reader, *net.TCPConn)
	all    sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]bool
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.all.Go(func() {
			defer s.forget(c)
			c.SetDeadline(time.Now().Add(lifetime))
			from := bufio.NewReader(c)
			if line, err := from.ReadString('\n'); err == nil {
				s.handle(line[:len(line)-1], from, c.(*net.TCPConn))
			}
		})
	}
}

func (s *server) forget(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// end cuts what there is.
func (s *server) end() {
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

// answer says the server's name, and what it was asked.
func answer(pod *netns.Pod) func(string, *bufio.Reader, *net.TCPConn) {
	return func(line string, _ *bufio.Reader, c *net.TCPConn) { fmt.Fprintf(c, "%s %s\n", pod.Name, line) }
}

// request asks on a connection of its own, and returns who has answered.
func request(from *netns.NS, to *Service, six bool, question string) (who string, err error) {
	c, err := dial(from, to, six)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, question); err != nil {
		return "", err
	}
	said, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	if n, err := fmt.Sscanf(string(said), "%s "+question+"\n", &who); n != 1 || err != nil {
		return "", fmt.Errorf("it says %q", said)
	}
	return who, nil
}

// patience is how long an answer may take that has to wait for something else.
const patience = 30 * time.Second

// awaitAnswer waits until a Service is served to a client by both families. Each question
// comes from another port, impatiently: a SYN that leaves before there is a rule for it is lost
// with all its repetitions.
func (s *Site) awaitAnswer(from *netns.NS, to *Service) {
	s.t.Helper()
	for _, six := range []bool{false, true} {
		netns.Eventually(s.t, to.Addr(six).String()+" is served to "+from.Name, func() error {
			_, err := request(from, to, six, "hello")
			return err
		})
	}
}
