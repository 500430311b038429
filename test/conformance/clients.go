package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

const (
	// impatience is how long a connect may take that may well come too early: a
	// SYN that leaves before there is a rule for it is lost with all its
	// repetitions.
	impatience = 300 * time.Millisecond
	// refusal is how long a client may wait until it is refused. An ICMPv6 error
	// that comes back while connect has not returned yet, as it does on virtual
	// links, is not noticed before the second SYN, after a second.
	refusal = 3 * time.Second
	// silence is how long nothing must come back to call it that. The second SYN
	// is within, see above.
	silence = 1500 * time.Millisecond
)

// from is somebody who connects, or sends datagrams.
type from struct {
	name string
	*netns.NS
	v4, v6 netip.Addr // that its packets come from
	udp    bool       // asks with a datagram, and not on a connection
}

// pod is a client in a pod.
func (w *World) pod(p *netns.Pod) from { return from{name: p.Name, NS: p.NS, v4: p.IPv4, v6: p.IPv6} }

// bridged is a client in a bridged pod of node-1.
func (w *World) bridged() from { return w.pod(w.Client) }

// routed is a client in a routed pod of node-1.
func (w *World) routed() from { return w.pod(w.Routed) }

// remote is a client in a bridged pod of node-2.
func (w *World) remote() from { return w.pod(w.RemoteClient) }

// node1 is a process of node-1.
func (w *World) node1() from { return onNode(w.Node) }

// node2 is a process of node-2.
func (w *World) node2() from { return onNode(w.Node2) }

func onNode(n *netns.Node) from { return from{name: n.Name, NS: n.NS, v4: n.IPv4, v6: n.IPv6} }

// outside is a client outside of the cluster, which routes Service addresses of
// all kinds to node-1.
func (w *World) outside() from {
	return from{name: "a client outside", NS: w.Node.Client, v4: netns.ClientIPv4, v6: netns.ClientIPv6}
}

// inside are two pods of node-1 and node-1 itself.
func (w *World) inside() []from { return []from{w.bridged(), w.routed(), w.node1()} }

// elsewhere are a pod of node-2, node-2 itself and a client outside.
func (w *World) elsewhere() []from { return []from{w.remote(), w.node2(), w.outside()} }

// everywhere are all of them.
func (w *World) everywhere() []from { return append(w.inside(), w.elsewhere()...) }

// overUDP are the same clients, who ask with datagrams. Each comes from a port of
// its own, so a proxy chooses anew for each.
func overUDP(who []from) []from {
	who = slices.Clone(who)
	for i := range who {
		who[i].udp = true
		who[i].name += " over UDP"
	}
	return who
}

// A transport is a protocol by which Services serve and clients ask.
type transport struct {
	name   string
	serves func(*corev1.Service)
	over   func([]from) []from
}

var transports = []transport{
	{"tcp", func(*corev1.Service) {}, func(who []from) []from { return who }},
	{"udp", servesUDP, overUDP},
}

// addr is the client's address of the family of another address.
func (f from) addr(family netip.Addr) netip.Addr {
	if family.Is4() {
		return f.v4
	}
	return f.v6
}

// get returns what the server behind addr says.
func (f from) get(addr netip.AddrPort) (string, error) { return f.getPath(addr, "/") }

func (f from) getPath(addr netip.AddrPort, path string) (answer string, err error) {
	if f.udp {
		answer, err = f.getDatagram(addr, path)
	} else {
		answer, err = f.Get("http://" + addr.String() + path)
	}
	if err != nil {
		return "", fmt.Errorf("from %s: %w", f.name, err)
	}
	return answer, nil
}

// clientIP is the address that the server behind addr sees the client with.
func (f from) clientIP(addr netip.AddrPort) (netip.Addr, error) {
	answer, err := f.getPath(addr, "/clientip")
	if err != nil {
		return netip.Addr{}, err
	}
	seen, err := netip.ParseAddrPort(answer)
	return seen.Addr(), err
}

// ask asks addr n times, on a connection each, and counts who answers. It ends
// with the first error.
func (f from) ask(addr netip.AddrPort, n int) (map[string]int, error) {
	seen := map[string]int{}
	for range n {
		answer, err := f.get(addr)
		if err != nil {
			return seen, err
		}
		seen[answer]++
	}
	return seen, nil
}

// connect tries one TCP connect, impatiently, and says what became of it. Over UDP
// it tries to get an answer.
func (f from) connect(addr netip.AddrPort) error { return f.connectWithin(impatience, addr) }

func (f from) connectWithin(patience time.Duration, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if f.udp {
		return f.reach(ctx, addr)
	}
	conn, err := f.DialContext(ctx, "tcp", addr.String())
	if err == nil {
		conn.Close()
	}
	return err
}

// each calls check for every client and address until it returns nil.
func (w *World) each(who []from, addrs []netip.AddrPort, what string, check func(from, netip.AddrPort) error) {
	w.t.Helper()
	for _, f := range who {
		for _, addr := range addrs {
			netns.Eventually(w.t, fmt.Sprintf("%s %s, from %s", addr, what, f.name), func() error { return check(f, addr) })
		}
	}
}

// answers waits until addrs are answered by exactly these servers, from
// everybody in who.
func (w *World) answers(who []from, addrs []netip.AddrPort, names ...string) {
	w.t.Helper()
	w.each(who, addrs, fmt.Sprintf("is answered by %v", names), func(f from, addr netip.AddrPort) error {
		if err := f.connect(addr); err != nil {
			return err
		}
		return f.answeredBy(addr, names)
	})
}

// answeredBy asks often enough that a server that takes part is seen, and one
// that does not would be, even by a proxy that chooses at random.
func (f from) answeredBy(addr netip.AddrPort, names []string) error {
	seen, err := f.ask(addr, 12+4*len(names))
	if err != nil {
		return err
	}
	want := slices.Sorted(slices.Values(names))
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		return fmt.Errorf("%v answer", got)
	}
	return nil
}

// sticks waits until addr is answered by one server alone, whichever, and
// returns its name.
func (w *World) sticks(f from, addr netip.AddrPort) (name string) {
	w.t.Helper()
	w.each([]from{f}, []netip.AddrPort{addr}, "is answered by one server", func(f from, addr netip.AddrPort) error {
		if err := f.connect(addr); err != nil {
			return err
		}
		seen, err := f.ask(addr, 16)
		if err != nil {
			return err
		}
		if len(seen) != 1 {
			return fmt.Errorf("%v answer", seen)
		}
		for name = range seen {
		}
		return nil
	})
	return name
}

// seenAs waits until the servers behind addrs see the client with its own
// address of their family.
func (w *World) seenAs(f from, addrs ...netip.AddrPort) {
	w.t.Helper()
	w.each([]from{f}, addrs, "sees the client's own address", func(f from, addr netip.AddrPort) error {
		if err := f.connect(addr); err != nil {
			return err
		}
		for range 8 { // whichever endpoint it is
			got, err := f.clientIP(addr)
			if err != nil {
				return err
			}
			if want := f.addr(addr.Addr()); got != want {
				return fmt.Errorf("it sees %s, want %s", got, want)
			}
		}
		return nil
	})
}

// refuses waits until a connect to addrs is refused, within three seconds.
func (w *World) refuses(who []from, addrs ...netip.AddrPort) {
	w.t.Helper()
	w.atOnce(who, addrs, "refused", func(f from, addr netip.AddrPort) error {
		if err := f.connectWithin(refusal, addr); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("want ECONNREFUSED, got %v", err)
		}
		return nil
	})
}

// unanswered waits until all changes are taken in and nobody answers at addrs,
// in whatever way: the contract says nothing about an address that is no
// Service's.
func (w *World) unanswered(who []from, addrs ...netip.AddrPort) {
	w.t.Helper()
	w.settle()
	w.atOnce(who, addrs, "not answered", func(f from, addr netip.AddrPort) error {
		if f.connect(addr) == nil {
			return errors.New("it is")
		}
		return nil
	})
}

// silent waits until all changes are taken in and a connect to addrs is met with
// silence. A reset or an ICMP error of any kind would end the connect before its
// time, with an error that is not a timeout.
func (w *World) silent(who []from, addrs ...netip.AddrPort) {
	w.t.Helper()
	w.settle()
	w.atOnce(who, addrs, "met with silence", func(f from, addr netip.AddrPort) error {
		err := f.connectWithin(silence, addr)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			return fmt.Errorf("want silence, got %v", err)
		}
		return nil
	})
}

// atOnce is each for checks that take their time: all run at the same time,
// until all return nil.
func (w *World) atOnce(who []from, addrs []netip.AddrPort, what string, check func(from, netip.AddrPort) error) {
	w.t.Helper()
	netns.Eventually(w.t, fmt.Sprintf("%v are %s", addrs, what), func() error {
		var all sync.WaitGroup
		errs := make([]error, len(who)*len(addrs))
		for i, f := range who {
			for j, addr := range addrs {
				all.Go(func() {
					if err := check(f, addr); err != nil {
						errs[i*len(addrs)+j] = fmt.Errorf("%s from %s: %w", addr, f.name, err)
					}
				})
			}
		}
		all.Wait()
		return errors.Join(errs...)
	})
}

// goesOn asks addr again and again, from everybody in who, while during runs,
// and a few times before and after. No request may fail.
func (w *World) goesOn(who []from, addr netip.AddrPort, during func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all, begun sync.WaitGroup
	defer all.Wait()
	defer cancel()
	const few, pause = 5, 2 * time.Millisecond
	for _, f := range who {
		begun.Add(1)
		all.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil || n < 2*few; n++ {
				<-tick.C
				if n == few {
					begun.Done()
				}
				if _, err := f.get(addr); err != nil {
					w.t.Errorf("the request after %d good ones failed, %v", n, err)
					if n < few {
						begun.Done()
					}
					return
				}
			}
		})
	}
	begun.Wait()
	during()
}
