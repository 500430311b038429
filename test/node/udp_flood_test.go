package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// flooder is what forged datagrams say that they are from.
const flooder = "flood"

// A flood is datagrams to one address, each from another address that is nobody's.
type flood struct {
	to, first netip.Addr
	n         int // of source addresses
	perSecond int
}

// run sends the flood from inside a namespace.
func (f flood) run(t *testing.T, ns *netns.NS) {
	domain, level, option := unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT
	if f.to.Is6() {
		domain, level, option = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	var fd int
	var err error
	ns.Do(func() { fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) })
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		t.Errorf("IP_TRANSPARENT: %v", err)
		return
	}
	to, text := sockaddr(netip.AddrPortFrom(f.to, 80)), []byte(flooder+" 1")
	start, source := time.Now(), f.first
	due := start
	for range f.n {
		for time.Until(due) > 0 {
			time.Sleep(time.Millisecond)
		}
		// What a busy machine has kept it from sending is not sent all at once.
		due = later(due.Add(time.Second/time.Duration(f.perSecond)), time.Now().Add(-5*time.Millisecond))
		if err := unix.Sendmsg(fd, text, sentFrom(source), to, 0); err != nil {
			t.Errorf("send from %s: %v", source, err)
			return
		}
		source = source.Next()
	}
	t.Logf("%d datagrams to %s, each from another address, in %s", f.n, f.to, time.Since(start).Round(time.Millisecond))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sentFrom is the control message that gives a datagram its source (ip(7), ipv6(7)).
func sentFrom(a netip.Addr) []byte {
	if a.Is6() {
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
}

// process is what the kernel knows of a process.
type process struct{ pid int }

// files are how many it has open.
func (p process) files() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	return len(entries)
}

// memory is how many MiB of it are in memory.
func (p process) memory() float64 {
	text, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(p.pid), "status"))
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	fmt.Sscan(rest, &kib)
	return kib / 1024
}

// cpu is how much time it has used.
func (p process) cpu() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // of 1/100 s: USER_HZ
}

// waited is for how long its threads were ready to run and did not, as others had
// the processors.
func (p process) waited() (sum time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	for _, thread := range threads {
		var ran, waited time.Duration
		text, _ := os.ReadFile(thread)
		fmt.Sscan(string(text), &ran, &waited)
		sum += waited
	}
	return sum
}

// most follows the number of open files until stopped, and returns the most.
func (p process) most() (stop func() int) {
	ended, result := make(chan struct{}), make(chan int)
	go func() {
		most := 0
		for {
			most = max(most, p.files())
			select {
			case <-ended:
				result <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int {
		close(ended)
		return <-result
	}
}

// crowd are clients that go on asking, each at its own port.
type crowd struct {
	askers      []*asker
	answered    bool // whether they expect it
	asked, lost atomic.Int64
	all         sync.WaitGroup
}

func (s *scene) crowd(n int, to string, answered bool) *crowd {
	c := &crowd{answered: answered}
	for i := range n {
		c.askers = append(c.askers, ask(s.t, []*netns.NS{s.client.NS, s.routed.NS}[i%2], to))
		c.askers[i].name = fmt.Sprintf("client-%d", i)
	}
	return c
}

// goOn has all of them ask ten times a second until stopped.
func (c *crowd) goOn() (stop func()) {
	ended := make(chan struct{})
	for i, a := range c.askers {
		c.all.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Millisecond / time.Duration(len(c.askers))) // not all at once
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ended:
					return
				case <-tick.C:
					c.ask(a)
				}
			}
		})
	}
	return func() {
		close(ended)
		c.all.Wait()
	}
}

func (c *crowd) ask(a *asker) {
	c.asked.Add(1)
	err := a.send()
	if err == nil && c.answered {
		_, err = a.answer(time.Second)
	}
	if err != nil {
		c.lost.Add(1)
	}
}

// Addresses that are forged without end cost known clients nothing, and usher no
// more than its bounds allow (UDP fault of any proxy that keeps sessions).
func TestFloodFromForgedAddresses(t *testing.T) {
	const perService = 1000
	s := newScene(t)
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	s.quickFlows()
	answering := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort6(8080))
	mute := answer(t, s.pods[1].NS, "mute", s.pods[1].AddrPort4(8080), func(a *answerer) { a.mute = true })
	s.write("answering.yaml", udpManifest("answering", 10, 30080, s.pods[0].IPv4))
	s.write("mute.yaml", udpManifest("mute", 11, 30081, s.pods[1].IPv4))
	s.write("six.yaml", udpManifest6("six", 12, 30082, s.pods[0].IPv6))
	u := s.start(fmt.Sprintf("--udp-max-sessions-per-service=%d", perService), "--udp-idle-timeout=2s", "--udp-stream-timeout=5s", "--log-level=error")
	p := process{u.PID()}
	files, memory := p.files(), p.memory()

	known, writers := s.crowd(200, udpVIP(10), true), s.crowd(50, udpVIP(11), false)
	for _, a := range known.askers {
		a.gets("pod-1")
		a.gets("pod-1")
	}
	stopKnown, stopWriters := known.goOn(), writers.goOn()
	netns.Eventually(t, "all are known", func() error {
		for _, a := range writers.askers {
			if mute.countOf(a.name) < 3 {
				return errors.New(a.name + " is not")
			}
		}
		return nil
	})
	most, cpu, waited := p.most(), p.cpu(), p.waited()
	var floods sync.WaitGroup
	for _, f := range []flood{
		{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("10.66.0.1"), 65000 / slower, 10000 / slower},
		{netip.MustParseAddr("10.96.0.11"), netip.MustParseAddr("10.67.0.1"), 65000 / slower, 10000 / slower},
		{netip.MustParseAddr("fd00:10:96::12"), netip.MustParseAddr("2001:db8:66::1"), 5000 / slower, 1000 / slower},
	} {
		floods.Go(func() { f.run(t, s.Client) })
	}
	floods.Wait()
	stopKnown()
	stopWriters()
	highest, highestMemory := most(), p.memory()

	t.Logf("known clients: %d of %d answers are missing; writers: %d of %d datagrams arrived", known.lost.Load(), known.asked.Load(), mute.arrived(writers), writers.sent())
	cpu, waited = p.cpu()-cpu, p.waited()-waited
	t.Logf("processor time: %s, and %s of waiting for a processor", cpu, waited.Round(time.Millisecond))
	t.Logf("open files: %d before, at most %d; memory: %.0f MiB before, %.0f MiB after the flood", files, highest, memory, highestMemory)
	for _, cause := range []string{"queue", "session_limit", "res", "refused", "error"} {
		t.Logf("dropped by %s: %.0f", cause, s.metric("usher_udp_drops_total", fmt.Sprintf("cause=%q", cause)))
	}
	t.Logf("sessions: %.0f", s.metric("usher_udp_sessions_total"))
	lost, asked := int(known.lost.Load())+writers.sent()-mute.arrived(writers), int(known.asked.Load())+writers.sent()
	tolerated := asked / 100
	if waited > 3*cpu/2 {
		tolerated = asked / 4
		t.Log("others need this machine's processors: what usher has no time to read is lost, whoever sent it")
	}
	if lost > tolerated {
		t.Errorf("known clients have lost %d of %d datagrams, want at most %d", lost, asked, tolerated)
	}
	known.keptSessions(t, answering)
	writers.keptSessions(t, mute)
	if bound := files + 3*perService + 100; highest > bound {
		t.Errorf("%d files were open, want at most %d", highest, bound)
	}
	netns.Eventually(t, "all sessions end", func() error {
		if n := s.metric("usher_udp_sessions_active"); n > 0 {
			return fmt.Errorf("%v sessions", n)
		}
		if n := p.files(); n > files+10 {
			return fmt.Errorf("%d files are open, %d were", n, files)
		}
		return nil
	})
	t.Logf("in the end: %d open files, %.0f MiB", p.files(), p.memory())
	if now := p.memory(); now > memory+64*slower {
		t.Errorf("%.0f MiB are in use, %.0f were", now, memory)
	}
	ask(t, s.client.NS, udpVIP(10)).gets("pod-1")
}

// keptSessions wants the endpoint to have seen each client from one port.
func (c *crowd) keptSessions(t *testing.T, server *answerer) {
	t.Helper()
	moved := 0
	for _, a := range c.askers {
		if len(server.from(a.name)) != 1 {
			moved++
		}
	}
	if moved > 0 {
		t.Errorf("%d of %d clients of %s have lost their session", moved, len(c.askers), server.name)
	}
}

func (c *crowd) sent() (n int) {
	for _, a := range c.askers {
		n += a.number
	}
	return n
}

func (a *answerer) arrived(of *crowd) (n int) {
	for _, c := range of.askers {
		n += a.countOf(c.name)
	}
	return n
}

// quickFlows has the node's kernel forget flows soon: it tracks each forged
// address too, and has room for some number of flows only.
func (s *scene) quickFlows() {
	s.keepsTrack()
	s.Sysctl("net/netfilter/nf_conntrack_udp_timeout", "5")
	s.Sysctl("net/netfilter/nf_conntrack_udp_timeout_stream", "5")
}
