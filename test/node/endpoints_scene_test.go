package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// wishes are what a Service asks for, by the names of annotations.
type wishes = map[string]string

// An endpointStatus is what usher get endpoints tells of one endpoint.
type endpointStatus struct {
	Address, State, Why string
	Connections         int
}

// adminSocket is where usher tells about itself.
func (s *scene) adminSocket() string { return filepath.Join(filepath.Dir(s.folder), "usher.sock") }

// startSeen starts usher so that it can be asked.
func (s *scene) startSeen(args ...string) *usher.Process {
	s.t.Helper()
	return s.start(append(args, "--admin-socket="+s.adminSocket())...)
}

// status is what usher tells of a pod in a Service.
func (s *scene) status(service string, pod *netns.Pod) endpointStatus {
	s.t.Helper()
	out, faults, code := usher.Run(s.t, s.NS, "get", "endpoints", service, "--output=json", "--admin-socket="+s.adminSocket())
	var ports []struct{ Endpoints []endpointStatus }
	if err := json.Unmarshal([]byte(out), &ports); code != 0 || err != nil {
		s.t.Fatalf("usher get endpoints %s: exit code %d, %v\n%s%s", service, code, err, out, faults)
	}
	for _, p := range ports {
		for _, e := range p.Endpoints {
			if at := netip.MustParseAddrPort(e.Address).Addr(); at == pod.IPv4 || at == pod.IPv6 {
				return e
			}
		}
	}
	s.t.Fatalf("%s is not among the endpoints of %s:\n%s", pod.Name, service, out)
	return endpointStatus{}
}

// is wants a pod of a Service to be in or out, and why.
func (s *scene) is(service string, pod *netns.Pod, state, why string) {
	s.t.Helper()
	if e := s.status(service, pod); e.State != state || !strings.Contains(e.Why, why) {
		s.t.Errorf("%s: %s is %s: %s; want %s, and %q in that", service, pod.Name, e.State, e.Why, state, why)
	}
}

// drop makes a pod silent on a port. It ends with undo.
func drop(pod *netns.Pod, protocol string, port int) (undo func()) {
	rule := []string{"INPUT", "-p", protocol, "--dport", fmt.Sprint(port), "-j", "DROP"}
	pod.Run("iptables", append([]string{"-A"}, rule...)...)
	return func() { pod.Run("iptables", append([]string{"-D"}, rule...)...) }
}

// reject makes a pod refuse connections to a port.
func reject(pod *netns.Pod, port int) {
	pod.Run("iptables", "-A", "INPUT", "-p", "tcp", "--syn", "--dport", fmt.Sprint(port), "-j", "REJECT", "--reject-with", "tcp-reset")
}

// portedTo is a manifest with endpoints on another port than 8080.
func portedTo(port int, manifest string) string {
	return strings.ReplaceAll(manifest, "port: 8080", fmt.Sprintf("port: %d", port))
}

// dualStack is manifest with an IPv6 address and endpoints besides: every pod is an
// endpoint in both families.
func dualStack(name string, n, nodePort int, pods ...*netns.Pod) string {
	var of4, of6 []netip.Addr
	for _, p := range pods {
		of4, of6 = append(of4, p.IPv4), append(of6, p.IPv6)
	}
	both := manifest(name, n, nodePort, of4...)
	_, slice, _ := strings.Cut(manifest(name, n, nodePort, of6...), "---")
	slice = strings.NewReplacer(name+"-1", name+"-2", "IPv4", "IPv6", "[fd00", `["fd00`, "]}", `"]}`).Replace(slice)
	return strings.Replace(both, "clusterIP: ", fmt.Sprintf("ipFamilyPolicy: RequireDualStack\n  clusterIPs: [10.96.0.%d, \"%s\"]\n  clusterIP: ", n, vip6(n)), 1) + "---" + slice
}

// vip6 is the n-th IPv6 address.
func vip6(n int) string { return fmt.Sprintf("fd00:10:96::%x", n) }

// A tcpServer calls handle for each connection, in a goroutine of its own, until the
// test ends.
type tcpServer struct {
	listener net.Listener
	handle   func(*net.TCPConn)
	all      sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func serveTCP(t *testing.T, ns *netns.NS, addr netip.AddrPort, handle func(*net.TCPConn)) {
	t.Helper()
	s := &tcpServer{listener: ns.Listen("tcp", addr), handle: handle}
	s.all.Go(s.serve)
	t.Cleanup(s.close)
}

func (s *tcpServer) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		conn.SetDeadline(time.Now().Add(5 * time.Minute))
		s.all.Go(func() {
			defer conn.Close()
			s.handle(conn.(*net.TCPConn))
		})
	}
}

func (s *tcpServer) close() {
	s.listener.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

// A site is an HTTP server that can be told to be ill: then it answers with status
// 500 to /ready, and with its name to all else as before.
type site struct {
	ill   atomic.Bool
	asked atomic.Int64 // for /ready
}

func serveSite(t *testing.T, ns *netns.NS, name string, addr netip.AddrPort) *site {
	t.Helper()
	s := &site{}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		if s.ill.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	server := &http.Server{Handler: mux}
	l := ns.Listen("tcp", addr)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	return s
}

// answersOf are those who answer n requests to a URL, sorted, each once.
func answersOf(t *testing.T, from *netns.NS, url string, n int) (names []string) {
	t.Helper()
	for range n {
		name, err := from.Get(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// awaitAnswers waits until exactly these answer a few requests.
func awaitAnswers(t *testing.T, from *netns.NS, url string, names ...string) {
	t.Helper()
	netns.Eventually(t, fmt.Sprintf("%s is answered by %q", url, names), func() error {
		if got := answersOf(t, from, url, 6); !slices.Equal(got, names) {
			return fmt.Errorf("%q answer", got)
		}
		return nil
	})
}

// A talk is a connection to an echo server that is known to pass both ways.
type talk struct {
	t *testing.T
	net.Conn
}

// tryTalk is a talk, or why there is none. patience is for the first echo.
func tryTalk(t *testing.T, from *netns.NS, to string, patience time.Duration) (*talk, error) {
	t.Helper()
	conn, err := from.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	c := &talk{t, conn}
	if err := c.echo("hello", patience); err != nil {
		conn.Close()
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return c, nil
}

// beginTalk is a talk that must be there.
func beginTalk(t *testing.T, from *netns.NS, to string) *talk {
	t.Helper()
	c, err := tryTalk(t, from, to, answersWithin)
	if err != nil {
		t.Fatalf("%s to %s: %v", from.Name, to, err)
	}
	return c
}

// refusesTalk wants a connection to be reset, and returns after what time it was.
func refusesTalk(t *testing.T, from *netns.NS, to string) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := tryTalk(t, from, to, 10*time.Second); !isReset(err) {
		t.Errorf("%s to %s: %v; want a reset", from.Name, to, err)
	}
	return time.Since(start)
}

func (c *talk) echo(text string, patience time.Duration) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("said %q, heard %q", text, got)
	}
	return nil
}

// lasts wants the talk to go on.
func (c *talk) lasts() {
	c.t.Helper()
	if err := c.echo("more", answersWithin); err != nil {
		c.t.Errorf("%s to %s: %v", c.LocalAddr(), c.RemoteAddr(), err)
	}
}

// awaitReset waits until somebody else resets the talk.
func (c *talk) awaitReset() {
	c.t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !isReset(err) {
		c.t.Errorf("%s to %s: %v; want a reset", c.LocalAddr(), c.RemoteAddr(), err)
	}
}

// isReset: who is reset before he has said all hears of a broken pipe.
func isReset(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "connection reset") || strings.Contains(err.Error(), "broken pipe"))
}

// of matches the records of a talk.
func (c *talk) of() func(usher.Record) bool {
	local := c.LocalAddr().(*net.TCPAddr)
	return func(r usher.Record) bool { return r.ClientPort == local.Port && r.ClientIP == local.IP.String() }
}

// toldOf is the record of a talk that has ended.
func (c *talk) toldOf(u *usher.Process) usher.Record {
	c.t.Helper()
	return u.Records(1, c.of())[0]
}

// countLines is how many lines of a log have all the words.
func countLines(log string, words ...string) (n int) {
	for line := range strings.SplitSeq(log, "\n") {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

var errNotYet = errors.New("not yet")
