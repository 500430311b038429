package proxier

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/proxier/observe"
)

// passengers are connections in all the states in which they can be handed over.
type passengers struct {
	t       *testing.T
	talks   net.Conn // both ways
	stalled net.Conn // its client has not read anything yet
	all     []byte   // that it is sent
	sends   net.Conn // its client has sent its FIN, the endpoint answers later
	later   chan struct{}
	hears   net.Conn // the reverse
	waits   net.Conn // for its turn at a limit
	holds   net.Conn // who has that turn
	seeks   net.Conn // an endpoint, as the one that is tried is silent
	asks    net.Conn // by UDP
	from    string   // the port that the endpoint sees of asks
}

// departures is a scene in which all of them are there.
func departures(t *testing.T) (*scene, *passengers, []any) {
	s := newScene(t)
	p := &passengers{t: t, all: make([]byte, 24<<20), later: make(chan struct{})}
	rand.Read(p.all)
	talk := serveTCP(t, echoes)
	bulk := serveTCP(t, func(c net.Conn) { c.Write(p.all); c.(*net.TCPConn).CloseWrite(); io.Copy(io.Discard, c) })
	late := serveTCP(t, func(c net.Conn) { // answers whoever has ended
		said, _ := io.ReadAll(c)
		<-p.later
		c.Write(said)
	})
	early := serveTCP(t, func(c net.Conn) { // ends, and wants to hear all the same
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	})
	limited := service("limited", testVIP(5))
	limited.Annotations = map[string]string{"usher-proxy.io/max-connections": "1", "usher-proxy.io/on-limit": "wait:20s"}
	seeking := service("seeking", testVIP(6))
	seeking.Annotations = map[string]string{ // an attempt takes longer than a turn
		"usher-proxy.io/connect-timeout": "4s", "usher-proxy.io/total-connect-timeout": "1m", "usher-proxy.io/passive-health": "off",
	}
	silent := blackhole(t)
	objects := slices.Concat(with(service("talk", vip), talk), with(service("bulk", testVIP(2)), bulk), with(service("late", testVIP(3)), late),
		with(service("early", testVIP(4)), early), with(limited, talk), with(seeking, silent),
		datagramsTo("names", testVIP(7), portEcho(t)))
	s.set(objects...)
	p.talks = s.connectTo(vip)
	p.holds = s.connectTo(testVIP(5))
	p.stalled, p.sends, p.hears, p.waits, p.seeks = s.dial(2), s.dial(3), s.dial(4), s.dial(5), s.dial(6)
	io.WriteString(p.sends, "hello")
	p.sends.(*net.TCPConn).CloseWrite()
	p.waits.Write([]byte("x"))
	p.hears.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(p.hears); err != nil { // it is half closed from here
		t.Fatal(err)
	}
	var err error
	if p.asks, err = net.Dial("udp", testVIP(7)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.asks.Close() })
	s.eventually("UDP is answered", func() (err error) { p.from, err = p.ask(); return err })
	s.eventually("all are there", func() error {
		if n := s.proxier.data.connections.count(); n != 7 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	return s, p, objects
}

func (s *scene) dial(n int) (c net.Conn) {
	s.t.Helper()
	s.eventually(testVIP(n)+" accepts", func() (err error) { c, err = net.Dial("tcp", testVIP(n)); return err })
	s.t.Cleanup(func() { c.Close() })
	return c
}

// ask returns the port that the endpoint was asked from.
func (p *passengers) ask() (string, error) {
	p.asks.SetDeadline(time.Now().Add(time.Second))
	if _, err := p.asks.Write([]byte("who")); err != nil {
		return "", err
	}
	buf := make([]byte, 100)
	n, err := p.asks.Read(buf)
	return string(buf[:n]), err
}

// goOn wants all to be as they were.
func (p *passengers) goOn() {
	p.t.Helper()
	ping(p.t, p.talks)
	ping(p.t, p.holds)
	if from, err := p.ask(); err != nil || from != p.from {
		p.t.Errorf("UDP: the endpoint was asked from %s, is asked from %s, %v", p.from, from, err)
	}
	p.waits.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := p.waits.Read(make([]byte, 1)); n > 0 || !errors.Is(err, errTimeout(err)) {
		p.t.Errorf("who waits for his turn reads %d bytes, %v", n, err)
	}
}

// errTimeout is err if that is a timeout.
func errTimeout(err error) error {
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return err
	}
	return errors.New("no timeout")
}

// arrive wants all to get what they are due, and ends them.
func (p *passengers) arrive(s *scene, objects []any) {
	p.t.Helper()
	p.sends.SetDeadline(time.Now().Add(patience))
	close(p.later)
	if said, err := io.ReadAll(p.sends); string(said) != "hello" || err != nil {
		p.t.Errorf("who has ended first hears %q, %v", said, err)
	}
	p.stalled.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(p.stalled); err != nil || !bytes.Equal(got, p.all) {
		p.t.Errorf("who stalled got %d bytes of %d, %v", len(got), len(p.all), err)
	}
	p.holds.Close()
	p.waits.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(p.waits, make([]byte, 1)); err != nil {
		p.t.Errorf("who waited for his turn: %v", err)
	}
	s.set(append(objects, slice("seeking", serveTCP(p.t, echoes)))...) // another endpoint, which answers
	if err := echoed(p.seeks); err != nil {
		p.t.Errorf("who sought an endpoint: %v", err)
	}
	for _, c := range []net.Conn{p.talks, p.stalled, p.sends, p.hears, p.waits, p.seeks} {
		c.Close()
	}
}

func TestAHandOverThatFails(t *testing.T) {
	s, p, objects := departures(t)
	goroutines, files := usage(t)
	broken := errors.New("nobody is there")
	for range 20 {
		var states int
		err := s.proxier.HandOver(t.Context(), func(parcel handover.Parcel) error {
			states = len(parcel.State)
			return broken
		})
		if !errors.Is(err, broken) || states == 0 {
			t.Fatalf("%d bytes, %v", states, err)
		}
		p.goOn()
	}
	s.eventually("nothing is left of it", func() error {
		g, f := usage(t)
		if g > goroutines || f > files {
			return fmt.Errorf("goroutines %d -> %d, files %d -> %d", goroutines, g, files, f)
		}
		return nil
	})
	p.arrive(s, objects)
	s.wantReasons(7)
}

// wantReasons wants so many records of connections that have ended well.
func (s *scene) wantReasons(n int) {
	s.t.Helper()
	for range n {
		if r := s.record(); r.Reason != observe.OK {
			s.t.Errorf("%s %s: %s", r.VIP, r.ID(), r.Reason)
		}
	}
}

func TestAnotherProxierTakesOver(t *testing.T) {
	s, p, objects := departures(t)
	ids := s.ids()
	next := s
	for turn := range 3 {
		next = next.takenOver(turn%2 == 0)
		p.goOn() // before there are any objects
		next.set(objects...)
		next.eventually("all IDs", func() error {
			if now := next.ids(); !slices.Equal(now, ids) {
				return fmt.Errorf("turn %d: there were the connections %q, there are %q", turn, ids, now)
			}
			return nil
		})
		p.goOn()
	}
	p.arrive(next, objects)
	next.wantReasons(7)
}

// What came before a reset arrives by way of another process too. Nobody waits for the client
// to take it.
func TestAResetToAStalledClientGoesAlong(t *testing.T) {
	s := newScene(t)
	breaks := make(chan struct{})
	s.set(with(service("bulk", testVIP(1)), serveTCP(t, func(c net.Conn) {
		go c.Write(make([]byte, 24<<20))
		<-breaks
		c.(*net.TCPConn).SetLinger(0)
	}))...)
	client := s.dial(1)
	before, since := int64(0), time.Now()
	s.eventually("nothing moves any more", func() error {
		for _, c := range s.proxier.data.connections.all() {
			if _, out := c.moved(); out != before {
				before, since = out, time.Now()
			}
		}
		if before == 0 || time.Since(since) < 50*time.Millisecond {
			return fmt.Errorf("%d bytes have, and the last %s ago", before, time.Since(since))
		}
		return nil
	})
	close(breaks)
	next := s
	for range 3 {
		next = next.takenOver(false)
	}
	client.SetDeadline(time.Now().Add(patience))
	n, err := io.Copy(io.Discard, client)
	if r := next.record(); !errors.Is(err, syscall.ECONNRESET) || n == 0 || r.Reason != observe.BackendReset || r.BytesOut != n {
		t.Errorf("the client got %d bytes, %v; the record says %s, %d bytes", n, err, r.Reason, r.BytesOut)
	}
}

// takenOver hands everything over to another scene, which goes on with it.
func (s *scene) takenOver(check bool) *scene {
	s.t.Helper()
	var parcel handover.Parcel
	err := s.proxier.HandOver(s.t.Context(), func(p handover.Parcel) error {
		parcel = sent(s.t, p)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.stop()
	return newScene(s.t, inherits(s.t, parcel, check))
}

// sent is a parcel as another process gets it: with files of its own, as the one that hands
// over closes its own.
func sent(t testing.TB, p handover.Parcel) handover.Parcel {
	t.Helper()
	files := make([]int, len(p.Files))
	for i, fd := range p.Files {
		var err error
		if files[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	}
	return handover.Parcel{State: p.State, Files: files}
}

// inherits has a scene go on with a parcel, checked as one that could still refuse does, or not.
func inherits(t testing.TB, p handover.Parcel, check bool) func(*Config) {
	return func(c *Config) {
		t.Helper()
		var err error
		if c.Inherited, err = Inherit(p, c); err == nil && check {
			err = c.Inherited.Check()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ids are those of the connections that there are, sorted.
func (s *scene) ids() (list []string) {
	for _, c := range s.proxier.data.connections.all() {
		list = append(list, c.record.ID())
	}
	slices.Sort(list)
	return list
}

// fakeSuccessor passes the trial or not, and is executed or not.
type fakeSuccessor struct{ trial, exec error }

func (f fakeSuccessor) Try(context.Context, handover.Parcel) error { return f.trial }
func (f fakeSuccessor) Exec(handover.Parcel) error                 { return f.exec }

// An upgrade that fails says so, and is counted by the step that has.
func TestUpgradesThatFail(t *testing.T) {
	bad := errors.New("it does not work")
	for step, by := range map[string]fakeSuccessor{"trial": {trial: bad}, "handover": {exec: bad}} {
		t.Run(step, func(t *testing.T) {
			s := newScene(t, func(c *Config) { c.Successor = by })
			client := s.connectToEcho()
			var steps []string
			err := s.proxier.Upgrade(t.Context(), func(step string) { steps = append(steps, step) })
			if !errors.Is(err, bad) || steps[len(steps)-1] != step {
				t.Errorf("%v, after %q", err, steps)
			}
			if n, _ := s.metric("usher_upgrade_failures_total", "step", step); n != 1 {
				t.Errorf("%g failures are counted", n)
			}
			ping(t, client)
			ping(t, s.connectTo(vip))
		})
	}
	s := newScene(t)
	if err := s.proxier.Upgrade(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "cannot be upgraded") {
		t.Error(err)
	}
}

// portEcho answers each datagram with the port that it came from.
func portEcho(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		for {
			_, from, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteToUDPAddrPort([]byte(from.String()), from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

// Who has come to rest just when the time is over is not late.
func TestDepartureAtTheLastMoment(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		d, _ := newConnections(1, func() int { return 0 }).depart()
		if err := d.wait(over); err != nil {
			t.Fatal(err)
		}
	}
}
