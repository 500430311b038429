package iptables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"golang.org/x/sys/unix"
)

// returning are rules with the mark.
func (l *lab) returning() Rules {
	r := l.rules(l.web()...)
	r.Returning = Mark{returnMark, returnMark}
	return r
}

// routeReturning is the policy route that the mark is for.
func (l *lab) routeReturning() {
	l.t.Helper()
	ip := fmt.Sprintf("-%d", l.family)
	l.Run("ip", ip, "rule", "add", "fwmark", fmt.Sprintf("%#x/%#x", returnMark, returnMark), "lookup", "100")
	l.Run("ip", ip, "route", "add", "local", "default", "dev", "lo", "table", "100")
}

// transparent dials from an address that the node does not have.
func (l *lab) transparent(from netip.Addr) *net.Dialer {
	return &net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		Control:   option(unix.SOL_IP, unix.IP_TRANSPARENT),
	}
}

// control is what is done to a socket before it is bound.
type control = func(network, address string, c syscall.RawConn) error

// option sets one on a socket. IPv4's are for both families.
func option(level, name int) control {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), level, name, 1)
		}), err)
	}
}

// expectClientAddr says that a pod is reached, and sees the address that was
// dialled from.
func (l *lab) expectClientAddr(dialer *net.Dialer, to netip.AddrPort, want netip.Addr) {
	l.t.Helper()
	client := l.HTTPClient()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		return l.DialWith(ctx, dialer, l.network(TCP), address)
	}
	resp, err := client.Get("http://" + to.String() + "/clientip")
	if err != nil {
		l.t.Errorf("dial %v: %v", to, err)
		return
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if got, parseErr := netip.ParseAddrPort(string(said)); err != nil || parseErr != nil || got.Addr() != want {
		l.t.Errorf("%v saw the client %q, error %v, want %v", to, said, err, want)
	}
}

func TestAnswersToAnotherAddressReturn(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.routeReturning()
		l.RouteFromClient(netns.ClusterCIDRv4, netns.ClusterCIDRv6)
		for kind, pod := range map[string]*netns.Pod{
			"bridged": l.AddPod(netns.Bridged, "bridged"), "routed": l.AddPod(netns.Routed, "routed"),
		} {
			l.serveName(kind, pod.NS, 8080)
			to, dialer := netip.AddrPortFrom(l.podAddr(pod), 8080), l.transparent(l.clientAddr())

			l.sync(l.rules(l.web()...))
			l.expectSilence("without the mark, a transparent socket", l.NS, dialer, to)
			l.sync(l.returning())
			l.expectClientAddr(dialer, to, l.clientAddr())
			l.expectListener("an ordinary socket of the node", l.NS, to, kind)
			l.expectListener("the machine that has the address", l.Client, to, kind)
			l.sync(l.rules(l.web()...))
			l.expectSilence("with the mark gone, a transparent socket", l.NS, dialer, to)
		}
	})
}

func TestTheMarkGoesWithoutATrace(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		for name, end := range map[string]func(l *lab){
			"by Sync":                  func(l *lab) { l.sync(l.rules(l.web()...)) },
			"by Sync of a new process": func(l *lab) { l.table = l.open(osExec{}); l.sync(l.rules(l.web()...)) },
			"by Cleanup":               func(l *lab) { l.cleanup() },
			"by Cleanup of a process that had looked": func(l *lab) {
				marks := l.table
				l.table = l.open(osExec{})
				l.sync(l.rules(l.web()...))
				looked := l.table
				l.table = marks
				l.sync(l.returning())
				l.table = looked
				l.cleanup()
			},
			"by Cleanup of a new process, after a crash": func(l *lab) {
				l.iptables("-t", mangle, "-D", "PREROUTING", "-j", returnChain)
				l.iptables("-t", mangle, "-N", probeChain)
				l.table = l.open(osExec{})
				l.cleanup()
			},
		} {
			t.Run(name, func(t *testing.T) {
				l := newLab(t, v)
				l.iptables("-t", mangle, "-A", "PREROUTING", "-p", "udp", "-j", "ACCEPT")
				before := l.iptables("-t", mangle, "-S")
				l.sync(l.returning())
				l.expectJumps(l.returning())
				end(l)
				if after := l.iptables("-t", mangle, "-S"); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		}
	})
}

// A table that the kernel does not have cannot be looked at, and one that
// nobody uses is not to be brought into use: the same thing to a command.
func TestMangleIsLeftAloneWithoutTheMark(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.sync(l.rules(l.web()...))
		l.cleanup()
		l.sync(l.rules(l.web()...))
		if got := l.saved(); !strings.Contains(got, "*nat") || strings.Contains(got, "*mangle") {
			t.Errorf("tables in use:\n%s", got)
		}
	})
}

// without makes a kernel that lacks something, as iptables-restore sees it.
func without(part string) *journal {
	return &journal{change: func(input string) string { return strings.ReplaceAll(input, part, "nosuch") }}
}

func TestAKernelThatCannotMarkWorksOtherwise(t *testing.T) {
	for _, part := range []string{"-m socket", "*mangle", "MARK --set", "--ctdir"} {
		t.Run(part, func(t *testing.T) {
			eachVariant(t, func(t *testing.T, v variant) {
				l := newLab(t, v)
				x := without(part)
				l.table = l.open(x) // works
				l.sync(l.rules(l.web()...))
				before := l.iptables("-t", nat, "-S") + l.iptables("-S")
				l.Do(func() {
					for range 2 {
						if err := l.table.CanReturn(context.Background()); !errors.Is(err, ErrUnavailable) {
							t.Errorf("CanReturn: %v, want ErrUnavailable", err)
						}
					}
					if err := l.table.Sync(context.Background(), l.returning()); !errors.Is(err, ErrUnavailable) {
						t.Errorf("Sync: %v, want ErrUnavailable", err)
					}
				})
				asked := slices.DeleteFunc(x.restores, func(s string) bool { return !strings.Contains(s, "nosuch") })
				if len(asked) != 1 {
					t.Errorf("the kernel was asked %d times, want once", len(asked))
				}
				if after := l.iptables("-t", nat, "-S") + l.iptables("-S"); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
				l.sync(l.rules(l.web()[:1]...))
				if got := l.installed(); len(got) != 1 {
					t.Errorf("%v installed after a Sync without the mark, want one", got)
				}
				l.cleanup()
			})
		})
	}
}

func TestCanReturnAsksOnceAndLeavesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		x := &journal{}
		l.table = l.open(x)
		canceled, cancel := context.WithCancel(context.Background())
		cancel()
		l.Do(func() {
			if err := l.table.CanReturn(canceled); err == nil || errors.Is(err, ErrUnavailable) {
				t.Errorf("canceled: %v, want an error that is no answer", err)
			}
			x.restores = nil // of New, and the one that was canceled
			for range 2 {
				if err := l.table.CanReturn(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
		if len(x.restores) != 1 {
			t.Errorf("%d writes, want 1", len(x.restores))
		}
		if got := l.saved(); strings.Contains(got, chainPrefix) {
			t.Errorf("left behind:\n%s", got)
		}
	})
}
