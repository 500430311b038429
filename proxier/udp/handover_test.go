package udp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/observe"
)

// release releases the lab's Socket.
func (l *lab) release() SocketState {
	l.t.Helper()
	state, err := l.socket.Release()
	if err != nil {
		l.t.Fatal(err)
	}
	return state
}

// resume goes on in the lab with endpoints.
func (l *lab) resume(state SocketState, endpoints ...netip.AddrPort) {
	l.t.Helper()
	socket, err := l.relay.Resume(state, l.group, &server{account: l.account, endpoints: endpoints})
	if err != nil {
		l.t.Fatal(err)
	}
	l.socket = socket
}

// successor is another lab that goes on with this one's Socket; this one is over.
func (l *lab) successor(with setup, endpoints ...netip.AddrPort) *lab {
	l.t.Helper()
	next := newLab(l.t, with)
	next.socket.Close("")
	next.resume(l.release(), endpoints...)
	l.close("")
	return next
}

// seer is an endpoint that tells clients what it sees.
func seer(t testing.TB, addr string) *backend {
	t.Helper()
	conn := listenAt(t, netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
	b := &backend{conn: conn, addr: conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort(), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		buf := make([]byte, 100)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(fmt.Appendf(buf[:n], " %d", from.Port()), from)
		}
	}()
	t.Cleanup(b.close)
	return b
}

// storm is many clients that ask all the time, a few questions at once each, as dnsperf
// does.
type storm struct {
	t       testing.TB
	asked   atomic.Int64
	stop    chan struct{}
	clients sync.WaitGroup

	mu    sync.Mutex
	ports map[netip.AddrPort]string // that the endpoint saw, by client
}

func newStorm(l *lab, clients int) *storm {
	s := &storm{t: l.t, stop: make(chan struct{}), ports: map[netip.AddrPort]string{}}
	for range clients {
		c := l.client()
		s.clients.Go(func() { s.ask(c) })
	}
	return s
}

// ask asks until the storm is over. Each question has one answer.
func (s *storm) ask(c *client) {
	const atOnce = 4
	port := ""
	for round := 0; ; round++ {
		select {
		case <-s.stop:
			s.finish(c, port)
			return
		default:
		}
		waiting := map[string]bool{}
		for i := range atOnce {
			q := fmt.Sprint(round*atOnce + i)
			waiting[q] = true
			c.Write([]byte(q))
		}
		s.asked.Add(atOnce)
		for len(waiting) > 0 {
			answer, err := c.hearOr(patience)
			q, from, _ := strings.Cut(answer, " ")
			if err != nil || !waiting[q] || port != "" && from != port {
				s.t.Errorf("a client that comes from port %q hears %q, %v; it waits for %v", port, answer, err, waiting)
				return
			}
			delete(waiting, q)
			port = from
		}
	}
}

func (s *storm) finish(c *client, port string) {
	if answer, err := c.hearOr(50 * time.Millisecond); err == nil {
		s.t.Errorf("%q was answered twice", answer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[c.addr()] = port
}

// more waits until so many questions more were asked.
func (s *storm) more(n int64) {
	until := s.asked.Load() + n
	eventually(s.t, "questions", func() bool { return s.asked.Load() >= until || s.t.Failed() })
}

func (s *storm) end() {
	close(s.stop)
	s.clients.Wait()
}

// wantStories fails unless the sessions that have ended are those of the storm, with all
// that was asked and answered.
func (s *storm) wantStories(sessions []Session) {
	s.t.Helper()
	var in, out int64
	for _, e := range sessions {
		in, out = in+e.In, out+e.Out
		if got := fmt.Sprint(e.LocalPort); got != s.ports[e.Client] || e.FirstReply < 0 || e.Dropped != 0 {
			s.t.Errorf("the endpoint saw %s from port %s: %+v", e.Client, s.ports[e.Client], e)
		}
	}
	if asked := s.asked.Load(); len(sessions) != len(s.ports) || in != asked || out != asked {
		s.t.Errorf("%d sessions of %d clients have %d in and %d out of %d", len(sessions), len(s.ports), in, out, asked)
	}
}

var manySessions = Limits{Sessions: 100_000, Idle: time.Minute, Stream: time.Minute}

// TestHandOverUnderLoad has clients ask while their Socket changes hands, with as many
// readers as before or others.
func TestHandOverUnderLoad(t *testing.T) {
	for name, readers := range map[string][]int{"one": {1}, "four": {4}, "one and four": {1, 4}, "four and one": {4, 1}} {
		t.Run(name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, loopback string) {
				with := func(i int) setup {
					n := readers[i%len(readers)]
					return setup{addr: loopback, loops: n, readers: n, limits: manySessions}
				}
				b := seer(t, loopback)
				first := newLab(t, with(0))
				l := first
				l.serve(b.addr)
				s := newStorm(l, 20)
				s.more(200)
				files := l.socket.Readers()
				for i := range 10 {
					l = l.successor(with(i+1), b.addr)
					s.more(200)
					if n := l.socket.Readers(); n != files {
						t.Errorf("%d files are read, %d were", n, files)
					}
				}
				s.end()
				l.settle()
				if first.sessions() != 20 || l.sessions() != 0 || l.relay.Len() != 20 || l.group.Len() != 20 || l.dropped() != "" {
					t.Errorf("%d sessions, then %d more; %d in the table, %d in the group, drops %q", first.sessions(), l.sessions(), l.relay.Len(), l.group.Len(), l.dropped())
				}
				l.close(observe.Shutdown)
				s.wantStories(l.ended())
				if len(first.ended()) > 0 {
					t.Errorf("the first one hears of %+v", first.ended())
				}
			})
		})
	}
}

// What comes while nobody reads waits in the kernel, in both directions.
func TestWhatComesMeanwhileIsNotLost(t *testing.T) {
	for _, readers := range []int{1, 4} {
		t.Run(fmt.Sprint(readers, " readers"), func(t *testing.T) {
			l := newLab(t, setup{loops: readers, readers: readers})
			b := mute(t, "127.0.0.1")
			l.serve(b.addr)
			var clients []*client
			var from []netip.AddrPort
			for range 10 {
				c := l.client()
				c.send("hello")
				clients, from = append(clients, c), append(from, b.sender(t))
			}
			l.settle()
			state := l.release()
			newcomer := l.client()
			newcomer.send("new")
			for i, c := range clients {
				c.send("again")
				b.conn.WriteToUDPAddrPort([]byte("reply"), from[i])
			}
			if _, err := clients[0].hearOr(20 * time.Millisecond); err == nil {
				t.Fatal("somebody still sends replies")
			}
			l.resume(state, b.addr)
			senders := map[netip.AddrPort]bool{}
			for range len(clients) + 1 {
				senders[b.sender(t)] = true
			}
			for i, c := range clients {
				if got := c.hear(); got != "reply" {
					t.Errorf("client %d hears %q", i, got)
				}
				if !senders[from[i]] {
					t.Errorf("client %d comes from another port than %s now", i, from[i])
				}
			}
			if got := b.received(); len(got) != 21 || l.sessions() != 11 || l.dropped() != "" {
				t.Errorf("%d datagrams, %d sessions, drops %q", len(got), l.sessions(), l.dropped())
			}
		})
	}
}

// Its sessions go on too: a reply still comes, and it serves again.
func TestASocketThatRefusesIsHandedOver(t *testing.T) {
	for _, later := range []int{1, 2, 4} {
		t.Run(fmt.Sprint("then ", later), func(t *testing.T) {
			l := newLab(t, setup{loops: 4, readers: 2})
			b := mute(t, "127.0.0.1")
			l.serve(b.addr)
			c := l.client()
			c.send("hello")
			from := b.sender(t)
			l.settle()
			l.socket.Refuse()
			next := l.successor(setup{loops: 4, readers: later}, b.addr)
			b.conn.WriteToUDPAddrPort([]byte("late"), from)
			if got := c.hear(); got != "late" {
				t.Errorf("the client hears %q", got)
			}
			c.wantRefused()
			next.serve(b.addr)
			c.insistOn(b)
			if len(l.ended()) > 0 {
				t.Errorf("the first one hears of %v", l.reasons())
			}
			next.socket.Refuse()
			next.serve(b.addr)
			c.insistOn(b)
		})
	}
}

// insistOn sends until something arrives.
func (c *client) insistOn(b *backend) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		c.Write([]byte("again")) // which may tell of the last refusal
		select {
		case <-b.asked:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	c.t.Fatal("nothing arrives")
}

// A session that was left passes late replies on, and the other one all else.
func TestASessionThatWaitsForLateRepliesIsHandedOver(t *testing.T) {
	l := newLab(t, setup{})
	old, fresh := mute(t, "127.0.0.1"), named(t, "fresh", "127.0.0.1")
	l.serve(old.addr)
	c := l.client()
	c.send("hello")
	from := old.sender(t)
	l.serve(fresh.addr)
	if got := c.ask("again"); got != "fresh again" {
		t.Fatalf("the client hears %q", got)
	}
	l.settle()
	next := l.successor(setup{}, fresh.addr)
	old.conn.WriteToUDPAddrPort([]byte("late"), from)
	if got := c.hear(); got != "late" {
		t.Errorf("the client hears %q", got)
	}
	if got := c.ask("once more"); got != "fresh once more" {
		t.Errorf("the client hears %q", got)
	}
	if next.sessions() != 0 || next.relay.Len() != 2 {
		t.Errorf("%d sessions more, %d in the table", next.sessions(), next.relay.Len())
	}
	next.close(observe.Shutdown)
	if got := next.reasons(); len(got) != 2 {
		t.Errorf("ended: %v", got)
	}
}

// The new server is asked whether it keeps the routes, though it is the only one that
// this Socket ever had.
func TestTheSuccessorNeedNotKeepARoute(t *testing.T) {
	l := newLab(t, setup{})
	a, b := named(t, "a", "127.0.0.1"), named(t, "b", "127.0.0.1")
	l.serve(a.addr)
	c := l.client()
	c.ask("hello")
	next := l.successor(setup{}, b.addr)
	if got := c.ask("again"); got != "b again" {
		t.Errorf("the client hears %q", got)
	}
	if next.sessions() != 1 {
		t.Errorf("%d sessions were opened", next.sessions())
	}
}

// The first datagram that an endpoint refuses meanwhile goes to another one.
func TestTheReplayIsHandedOver(t *testing.T) {
	l := newLab(t, setup{})
	b := named(t, "b", "127.0.0.1")
	a := mute(t, "127.0.0.1")
	l.serve(a.addr)
	c := l.client()
	c.send("hello")
	from := a.sender(t)
	l.settle()
	state := l.release()
	if got := state.Sessions[0]; string(got.Replay) != "hello" || !got.Awaiting {
		t.Fatalf("the state is %+v", got)
	}
	a.close()
	wakeRefusal(t, state.Sessions[0].FD)
	l.resume(state, a.addr, b.addr)
	if got := c.hear(); got != "b hello" {
		t.Errorf("the client hears %q", got)
	}
	l.close(observe.Shutdown)
	for _, s := range l.ended() {
		if s.Route.To == a.addr && (s.Reason != observe.BackendRefused || s.LocalPort != from.Port()) || s.Route.To == b.addr && !slices.Equal(s.Tried, []netip.AddrPort{a.addr}) {
			t.Errorf("ended: %+v", s)
		}
	}
}

// wakeRefusal has an endpoint refuse something of a session that nobody watches.
func wakeRefusal(t *testing.T, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte("is anybody there?")); err != nil {
		t.Fatal(err)
	}
}

// What an endpoint has refused is not sent there again, whether this session or only
// another one was told.
func TestASessionThatWasRefusedIsHandedOver(t *testing.T) {
	for _, told := range []string{"itself", "others"} {
		t.Run(told, func(t *testing.T) {
			l := newLab(t, setup{})
			gone := mute(t, "127.0.0.1")
			l.serve(gone.addr)
			c := l.client()
			c.send("hello")
			gone.sender(t)
			c.send("hello again")
			gone.sender(t)
			gone.close()
			if told == "itself" {
				c.send("once more")
				eventually(t, "the refusal", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.refused == 1 })
			} else {
				l.relay.loops[0].refusals.add(gone.addr, l.relay.table.now())
			}
			l.settle()
			b := named(t, "b", "127.0.0.1")
			next := l.successor(setup{}, gone.addr, b.addr)
			if got := c.ask("and again"); got != "b and again" {
				t.Errorf("the client hears %q", got)
			}
			next.wantReasons(observe.BackendRefused)
			if s := next.ended()[0]; s.Route.To != gone.addr || s.In < 2 || next.dropped() != "" {
				t.Errorf("ended: %+v, drops %q", s, next.dropped())
			}
		})
	}
}

// A session gets no younger by changing hands, and goes when its time is over.
func TestIdleTimesGoOn(t *testing.T) {
	const idle = 1500 * time.Millisecond
	with := setup{limits: Limits{Sessions: 100, Idle: idle, Stream: idle}}
	l := newLab(t, with)
	b := echo(t, "127.0.0.1")
	l.serve(b.addr)
	l.client().ask("hello")
	began := time.Now()
	hops := 0
	for len(l.ended()) == 0 && time.Since(began) < patience {
		l = l.successor(with, b.addr)
		hops++
		for until := time.Now().Add(1100 * time.Millisecond); time.Now().Before(until) && len(l.ended()) == 0; {
			l.settle()
		}
	}
	took := time.Since(began)
	if got := l.reasons(); hops < 2 || took < idle || took > idle+2*time.Second || !slices.Equal(got, []observe.Reason{observe.Idle}) {
		t.Errorf("it was idle for %v, %d owners: %v", took, hops, got)
	}
}

// What happens between two owners counts, too.
func TestTheTimeBetweenTwoOwnersCounts(t *testing.T) {
	l := newLab(t, setup{})
	b := mute(t, "127.0.0.1")
	l.serve(b.addr)
	l.client().send("hello")
	b.sender(t)
	l.settle()
	state := l.release()
	state.Released = state.Released.Add(-time.Hour)
	state.Sessions[0].Idle += time.Minute
	l.resume(state, b.addr)
	l.relay.Look(func(s Live) {
		if s.Idle < 61*time.Minute || s.Idle > 62*time.Minute {
			t.Errorf("it is idle for %v", s.Idle)
		}
	})
	if l.relay.waiting(time.Minute) != 0 || l.relay.waiting(2*time.Hour) != 1 {
		t.Error("its client waits for a reply for another time")
	}
	l.wantReasons(observe.Idle)
}

// Two clients may differ by nothing but the link that they are on.
func TestLinkLocalClientsAreHandedOver(t *testing.T) {
	same := [2]string{"fe80::1/64", "fe80::2/64"}
	left, right := newNeighbour(t, "left", same), newNeighbour(t, "right", same)
	l := newLab(t, setup{addr: "::"})
	b := echo(t, "::1")
	l.serve(b.addr)
	us := netip.AddrPortFrom(netip.MustParseAddr("fe80::1%eth0"), l.socket.Addr().Port())
	clients := []*client{left.dialFrom(t, "fe80::2%eth0", 4000, us), right.dialFrom(t, "fe80::2%eth0", 4000, us)}
	for i, c := range clients {
		c.ask(fmt.Sprint(i))
	}
	next := l.successor(setup{addr: "::"}, b.addr)
	for i, c := range clients {
		if got := c.ask(fmt.Sprint("again ", i)); got != fmt.Sprint("again ", i) {
			t.Errorf("client %d hears %q", i, got)
		}
	}
	if next.sessions() != 0 {
		t.Errorf("%d sessions were opened", next.sessions())
	}
}

// The oldest sessions make room first, whichever Socket they came with. None goes for
// those that are resumed.
func TestLimitsAfterAHandOver(t *testing.T) {
	all := Limits{Sessions: 100, Idle: patience, Stream: patience}
	first := newLab(t, setup{limits: all})
	b := echo(t, "127.0.0.1")
	first.serve(b.addr)
	other, err := first.relay.Listen(freePort(t, netip.MustParseAddr("127.0.0.1")), first.group)
	must(t, err)
	must(t, other.Serve(&server{account: first.account, endpoints: []netip.AddrPort{b.addr}}))
	var clients []*client
	for i := range 10 {
		to := first.socket
		if i%2 == 1 {
			to = other
		}
		c := dial(t, nil, to.Addr())
		c.ask("hello")
		c.ask("hello again")
		clients = append(clients, c)
	}
	first.settle()
	states := []SocketState{first.release()}
	state, err := other.Release()
	must(t, err)
	states = append(states, state)
	first.close("")

	next := newLab(t, setup{limits: Limits{Sessions: 6, Idle: patience, Stream: patience}})
	next.socket.Close("")
	next.resume(states[1], b.addr)
	otherNow := next.socket
	defer otherNow.Close(observe.Shutdown)
	next.resume(states[0], b.addr)
	if n := next.group.Len(); n != 10 || len(next.ended()) > 0 {
		t.Errorf("%d sessions, %v have ended", n, next.reasons())
	}
	next.clientFrom("127.0.1.1").ask("a newcomer")
	next.settle()
	ended := next.ended()
	slices.SortFunc(ended, func(a, b Session) int { return a.Start.Compare(b.Start) })
	if len(ended) != 5 || next.group.Len() != 6 {
		t.Errorf("%d have ended, there are %d", len(ended), next.group.Len())
	}
	for i, s := range ended {
		if s.Client != clients[i].addr() || s.Reason != observe.Evicted {
			t.Errorf("number %d to go is %+v", i, s)
		}
	}
}

// The filter stays with the files, and no loss is told twice.
func TestAFilterAndLossesAreHandedOver(t *testing.T) {
	l := newLab(t, setup{})
	b := echo(t, "127.0.0.1")
	l.serve(b.addr)
	known := l.client()
	known.ask("hello")
	l.overflow(known)
	known.insist("hello")
	eventually(t, "losses", func() bool { return l.count(observe.DropQueue) > 0 })
	for { // replies of the overflow
		if _, err := known.hearOr(50 * time.Millisecond); err != nil {
			break
		}
	}
	next := l.successor(setup{}, b.addr)
	known.insist("hello again")
	if next.count(observe.DropQueue) != 0 {
		t.Errorf("drops %q", next.dropped())
	}
	must(t, next.socket.Filter(onlyFrom1))
	last := next.successor(setup{}, b.addr)
	last.clientFrom("127.0.0.2").send("from a hidden one")
	for range 3 {
		known.insist("hello")
	}
	last.settle()
	if last.sessions() != 0 {
		t.Errorf("%d sessions", last.sessions())
	}
}

func TestASocketIsReleasedOnce(t *testing.T) {
	l := newLab(t, setup{})
	b := echo(t, "127.0.0.1")
	l.serve(b.addr)
	l.client().ask("hello")
	state := l.release()
	if _, err := l.socket.Release(); !errors.Is(err, ErrReleased) {
		t.Errorf("a second time: %v", err)
	}
	l.socket.Close(observe.Shutdown)
	if len(l.ended()) > 0 || l.group.Len() != 0 || l.relay.Len() != 0 {
		t.Errorf("%v have ended, %d and %d sessions", l.reasons(), l.group.Len(), l.relay.Len())
	}
	isEmpty(t, l.relay.table, l.group)
	if err := l.socket.Serve(&server{account: l.account}); err == nil {
		t.Error("it serves")
	}
	state.close()
	l.socket.Close(observe.Shutdown)
	if _, err := l.socket.Release(); !errors.Is(err, ErrReleased) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAdopt(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "0.0.0.0", "::1", "::"} {
		t.Run(addr, func(t *testing.T) {
			l := newLab(t, setup{addr: addr, loops: 2, readers: 2})
			b := echo(t, reachable(l.socket.Addr()).Addr().String())
			l.serve(b.addr)
			state := l.release()
			for i := range state.Readers {
				unix.Close(state.Readers[i].FD)
			}
			if _, err := l.relay.Listen(state.Addr, l.group); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("somebody else listens there: %v", err)
			}
			var err error
			l.socket, err = l.relay.Adopt(state.Addr, state.FD, l.group)
			must(t, err)
			c := l.client()
			c.wantRefused()
			l.serve(b.addr)
			c.insist("hello")
		})
	}
}

func TestAFileThatIsNotAdopted(t *testing.T) {
	l := newLab(t, setup{})
	before := files(t)
	fd, err := bind(freePort(t, netip.MustParseAddr("127.0.0.1")), 0, false)
	must(t, err)
	for _, fd := range []int{fd, -1} {
		if _, err := l.relay.Adopt(l.socket.Addr(), fd, l.group); err == nil {
			t.Errorf("file %d is adopted", fd)
		} else {
			t.Log(err)
		}
	}
	if n := files(t); n != before {
		t.Errorf("%d files, before %d", n, before)
	}
}

// A state that no Release returns is refused, and its files are closed.
func TestStatesThatNoSocketIsIn(t *testing.T) {
	for name, spoil := range map[string]func(*SocketState){
		"a file of another address":  func(s *SocketState) { s.Addr = netip.MustParseAddrPort("127.0.0.9:53") },
		"no file":                    func(s *SocketState) { unix.Close(s.FD); s.FD = -1 },
		"no reader's file":           func(s *SocketState) { unix.Close(s.Readers[0].FD); s.Readers[0].FD = -1 },
		"a session's file as reader": func(s *SocketState) { s.Readers[0].FD, s.Sessions[0].FD = s.Sessions[0].FD, s.Readers[0].FD },
		"a reader that is not there": func(s *SocketState) { s.Sessions[1].Reader = 2 },
		"a negative reader":          func(s *SocketState) { s.Sessions[1].Reader = -1 },
		"a session without file":     func(s *SocketState) { unix.Close(s.Sessions[1].FD); s.Sessions[1].FD = -1 },
		"a session without endpoint": func(s *SocketState) { s.Sessions[1].Route.To = netip.AddrPort{} },
		"a client of another family": func(s *SocketState) { s.Sessions[1].Client = netip.MustParseAddrPort("[::1]:1") },
		"too much for another one":   func(s *SocketState) { s.Sessions[1].Replay = make([]byte, maxReplay+1) },
		"two sessions of one client": func(s *SocketState) {
			s.Sessions[1].Client, s.Sessions[1].Reader = s.Sessions[0].Client, s.Sessions[0].Reader
		},
		"one file for the two of them": func(s *SocketState) {
			unix.Close(s.Sessions[1].FD)
			s.Sessions[1].FD, s.Sessions[1].Reader = s.Sessions[0].FD, s.Sessions[0].Reader
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, setup{loops: 2, readers: 2})
			b := echo(t, "127.0.0.1")
			clients := []*client{l.client(), l.client()}
			before := files(t)
			next, err := l.relay.Listen(freePort(t, netip.MustParseAddr("127.0.0.1")), l.group)
			must(t, err)
			must(t, next.Serve(&server{account: l.account, endpoints: []netip.AddrPort{b.addr}}))
			for _, c := range clients {
				c.UDPConn.Close()
				*c = *dial(t, nil, next.Addr())
				c.ask("hello")
			}
			state, err := next.Release()
			must(t, err)
			spoil(&state)
			if _, err := l.relay.Resume(state, l.group, &server{account: l.account}); err == nil {
				t.Fatal("it was resumed")
			} else {
				t.Log(err)
			}
			if n := files(t); n != before {
				t.Errorf("%d files, before %d", n, before)
			}
			if l.relay.Len() != 0 || len(l.ended()) > 0 {
				t.Errorf("%d sessions, %v have ended", l.relay.Len(), l.reasons())
			}
		})
	}
}

func TestASocketStateSurvivesJSON(t *testing.T) {
	l := newLab(t, setup{})
	l.serve(mute(t, "127.0.0.1").addr)
	l.client().send("hello")
	l.wantPassed(1)
	state := l.release()
	defer state.close()
	state.Sessions[0].Route.Of, state.Sessions[0].Route.Unused = l, func(error) {}
	written, err := json.Marshal(state)
	must(t, err)
	var read SocketState
	must(t, json.Unmarshal(written, &read))
	if again, _ := json.Marshal(read); string(again) != string(written) || !read.Released.Equal(state.Released) {
		t.Errorf("%s became %s", written, again)
	}
	if s := read.Sessions[0]; s.Route.Of != nil || string(s.Replay) != "hello" || s.Client != state.Sessions[0].Client {
		t.Errorf("it became %+v", s)
	}
}
