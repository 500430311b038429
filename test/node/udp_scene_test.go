package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

const (
	// answersWithin is how long the answer to one datagram may take on a busy
	// machine: nothing in the lab loses any.
	answersWithin = 5 * time.Second
	// silence is how long no answer comes if none ever does.
	silence = 300 * time.Millisecond
)

// An answerer is a UDP server that answers "<client> <number>" with its own name
// before that, and remembers where each client's datagrams came from.
type answerer struct {
	name  string
	conn  *net.UDPConn
	delay time.Duration // before each answer
	mute  bool          // it never answers

	all sync.WaitGroup // the server, and answers on their way

	mu     sync.Mutex
	asked  int
	seen   map[string][]netip.AddrPort // of each client, in order
	counts map[string]int              // datagrams of each client
}

// answer serves datagrams until the test ends.
func answer(t *testing.T, ns *netns.NS, name string, addr netip.AddrPort, change ...func(*answerer)) *answerer {
	t.Helper()
	a := &answerer{name: name, conn: ns.ListenUDP(addr), seen: map[string][]netip.AddrPort{}, counts: map[string]int{}}
	for _, f := range change {
		f(a)
	}
	a.conn.SetReadBuffer(4 << 20)
	a.all.Go(a.serve)
	t.Cleanup(a.close)
	return a
}

// close ends it: from now on its port refuses. It may be called any number of
// times.
func (a *answerer) close() {
	a.conn.Close()
	a.all.Wait()
}

func (a *answerer) serve() {
	buf := make([]byte, 1<<16)
	for {
		n, client, err := a.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an answer was refused
			continue
		}
		a.note(string(buf[:n]), client)
		reply := []byte(a.name + " " + string(buf[:n]))
		switch {
		case a.mute:
		case a.delay > 0:
			a.all.Go(func() {
				time.Sleep(a.delay)
				a.conn.WriteToUDPAddrPort(reply, client)
			})
		default:
			a.conn.WriteToUDPAddrPort(reply, client)
		}
	}
}

func (a *answerer) note(request string, from netip.AddrPort) {
	client, _, _ := strings.Cut(request, " ")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if client == flooder {
		return
	}
	a.counts[client]++
	if !slices.Contains(a.seen[client], from) {
		a.seen[client] = append(a.seen[client], from)
	}
}

// count is how many datagrams have come so far.
func (a *answerer) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// clients are how many have been seen.
func (a *answerer) clients() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// from is where a client's datagrams have come from, each address and port once:
// there is one for each session.
func (a *answerer) from(client string) []netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen[client])
}

// countOf is how many of a client's datagrams have come.
func (a *answerer) countOf(client string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts[client]
}

// An asker is a UDP client that keeps its port, as some do for days. Its socket is
// connected: it is told of refusals, and an answer from elsewhere is none.
type asker struct {
	t      *testing.T
	name   string
	to     netip.AddrPort
	conn   net.Conn
	number int // of the latest datagram
}

// ask makes an asker with a port of its own.
func ask(t *testing.T, from *netns.NS, to string) *asker {
	t.Helper()
	conn, err := from.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{t: t, name: from.Name + ":" + strconv.Itoa(conn.LocalAddr().(*net.UDPAddr).Port), to: netip.MustParseAddrPort(to), conn: conn}
}

func (a *asker) String() string { return fmt.Sprintf("%s asks %s", a.name, a.to) }

// send sends one datagram and waits for nothing.
func (a *asker) send() error {
	a.number++
	_, err := fmt.Fprintf(a.conn, "%s %d", a.name, a.number)
	return err
}

// once sends one datagram and returns who answers it. If nobody does in time the
// error is [os.ErrDeadlineExceeded].
func (a *asker) once(patience time.Duration) (string, error) {
	if err := a.send(); err != nil {
		return "", err
	}
	return a.answer(patience)
}

// answer waits for the answer to the latest datagram.
func (a *asker) answer(patience time.Duration) (string, error) {
	a.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 512)
	for {
		n, err := a.conn.Read(buf)
		if err != nil {
			return "", err
		}
		who, request, _ := strings.Cut(string(buf[:n]), " ")
		if request == fmt.Sprintf("%s %d", a.name, a.number) { // and not a late one
			return who, nil
		}
	}
}

// gets wants the next datagram to be answered by who.
func (a *asker) gets(who string) {
	a.t.Helper()
	if got, err := a.once(answersWithin); err != nil || got != who {
		a.t.Errorf("%s: %q answers, %v; want %s", a, got, err, who)
	}
}

// awaits asks without a pause until who answers, as whoever keeps its port does.
func (a *asker) awaits(who string) {
	a.t.Helper()
	a.until(fmt.Sprintf("is answered by %s", who), func(got string, err error) bool { return err == nil && got == who })
}

// awaitsRefusal asks until it is refused.
func (a *asker) awaitsRefusal() {
	a.t.Helper()
	a.until("is refused", func(_ string, err error) bool { return isRefused(err) })
}

// awaitsSilence asks until it gets neither answer nor refusal, also the second time: on
// a busy machine an answer may only be late.
func (a *asker) awaitsSilence() {
	a.t.Helper()
	a.until("gets nothing", func(_ string, err error) bool {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_, err = a.once(silence)
		}
		return errors.Is(err, os.ErrDeadlineExceeded)
	})
}

// hearsNothing wants neither answer nor refusal.
func (a *asker) hearsNothing() {
	a.t.Helper()
	if got, err := a.once(silence); !errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Errorf("%s, and gets %q, %v; want nothing at all", a, got, err)
	}
}

func (a *asker) until(what string, ok func(who string, err error) bool) {
	a.t.Helper()
	netns.Eventually(a.t, a.String()+" and "+what, func() error {
		got, err := a.once(100 * time.Millisecond)
		if ok(got, err) {
			return nil
		}
		return fmt.Errorf("answer %q, %v", got, err)
	})
}

// udpManifest is manifest for a UDP port, with fields of the Service's spec and
// annotations besides.
func udpManifest(name string, n, nodePort int, endpoints ...netip.Addr) string {
	return strings.ReplaceAll(manifest(name, n, nodePort, endpoints...), "{name: http,", "{name: udp, protocol: UDP,")
}

// annotated is a manifest whose Service has annotations.
func annotated(manifest, name string, annotations map[string]string) string {
	var list []string
	for key, value := range annotations {
		list = append(list, fmt.Sprintf("usher-proxy.io/%s: %q", key, value))
	}
	return strings.Replace(manifest, "{name: "+name+"}", "{name: "+name+", annotations: {"+strings.Join(list, ", ")+"}}", 1)
}

// metric is the sum of the series of a metric that have these labels.
func (s *scene) metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	text, err := s.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.SplitSeq(text, "\n") {
		series, value, _ := strings.Cut(line, "} ")
		if !strings.HasPrefix(series, name+"{") {
			continue
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			v, _ := strconv.ParseFloat(value, 64)
			sum += v
		}
	}
	return sum
}

// udpPorts are the listener ports that the rules lead UDP to, by what the rules
// say they are for.
func (s *scene) udpPorts() map[string]uint16 {
	s.t.Helper()
	ports := map[string]uint16{}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.SplitSeq(s.Run(save, "-t", "nat"), "\n") {
			words := strings.Fields(line)
			after := func(word string) string {
				if i := slices.Index(words, word); i >= 0 && i+1 < len(words) {
					return strings.Trim(words[i+1], `"`)
				}
				return ""
			}
			if port, err := strconv.ParseUint(after("--to-ports"), 10, 16); err == nil && after("-p") == "udp" {
				ports[after("--comment")] = uint16(port)
			}
		}
	}
	return ports
}

// udpPort is the one that the rules lead datagrams to the n-th address to.
func (s *scene) udpPort(n int) uint16 {
	s.t.Helper()
	ports := s.udpPorts()
	for name, port := range ports {
		if strings.Contains(name, fmt.Sprintf("/10.96.0.%d:", n)) {
			return port
		}
	}
	s.t.Fatalf("no rule leads datagrams to 10.96.0.%d anywhere: %v", n, ports)
	return 0
}

// udpVIP is the n-th address as UDP clients ask it.
func udpVIP(n int) string { return fmt.Sprintf("10.96.0.%d:80", n) }

// ofSession matches the records of a client's sessions.
func ofSession(a *asker) func(usher.Record) bool {
	port := a.conn.LocalAddr().(*net.UDPAddr).Port
	return func(r usher.Record) bool { return r.Event == "udp.close" && r.ClientPort == port }
}

func withReason(a *asker, reason string) func(usher.Record) bool {
	of := ofSession(a)
	return func(r usher.Record) bool { return of(r) && r.Reason == reason }
}

func isRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "connection refused")
}
