package conntrack

import (
	"errors"
	"maps"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
)

// given that nothing has changed, or only what does not matter, when Sync is
// called, then the table is not read; and for no destination at all it never is.
func TestUnchangedReadsNothing(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		foreign, linkLocal := l.addresses(), l.addresses()
		foreign[l.otherFamilyAddr()] = true
		linkLocal[l.pick(netip.MustParseAddr("169.254.7.7"), netip.MustParseAddr("fe80::7"))] = true
		for _, step := range []struct {
			name      string
			to        map[Destination][]uint16
			addresses map[netip.Addr]bool
			reads     int
		}{
			{"nothing is captured", nil, l.addresses(), 0},
			{"still nothing", map[Destination][]uint16{}, linkLocal, 0},
			{"first destination", captured(l.dns(10), 11000), l.addresses(), 1},
			{"unchanged", captured(l.dns(10), 11000), l.addresses(), 0},
			{"another link-local address", captured(l.dns(10), 11000), linkLocal, 0},
			{"another address of the other family", captured(l.dns(10), 11000), foreign, 0},
			{"an address less", captured(l.dns(10), 11000), map[netip.Addr]bool{l.node(): true}, 1},
			{"other port", captured(l.dns(10), 11001), map[netip.Addr]bool{l.node(): true}, 1},
			{"other destination", captured(l.dns(20), 11001), map[netip.Addr]bool{l.node(): true}, 1},
			{"removed", nil, l.addresses(), 1},
			{"still removed", nil, l.addresses(), 0},
		} {
			before := l.table.reads
			if _, err := l.Sync(step.to, step.addresses); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			if reads := l.table.reads - before; reads != step.reads {
				t.Errorf("%s: table read %d times, want %d", step.name, reads, step.reads)
			}
		}
	})
}

func (l *lab) otherFamilyAddr() netip.Addr {
	return l.pick(netip.MustParseAddr("2001:db8::77"), netip.MustParseAddr("192.0.2.77"))
}

// given a Sync that fails, when nothing changes any more, then the next one does
// its work, and the one after it nothing.
func TestFailedIsTriedAgain(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		c := l.outside(l.dns(10))
		l.table.fails = unix.ENOBUFS
		if _, err := l.Sync(captured(l.dns(10), 11000), l.addresses()); !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("error %v, want ENOBUFS", err)
		}
		c.expect(l.dns(10))
		l.sync(1, captured(l.dns(10), 11000))
		c.expect(forgotten)
		l.sync(0, captured(l.dns(10), 11000))
		if l.table.reads != 2 {
			t.Errorf("table read %d times, want 2", l.table.reads)
		}
	})
}

// given a table that changed while it was read, then what was seen is deleted, the
// caller is told, and the next Sync reads again.
func TestPartialIsTriedAgain(t *testing.T) {
	l := newLab(t, iptables.IPv4)
	c := l.outside(l.dns(10))
	l.table.after = netlink.ErrDumpInterrupted
	deleted, err := l.Sync(captured(l.dns(10), 11000), l.addresses())
	if deleted != 1 || !errors.Is(err, ErrPartial) || errors.Is(err, ErrUnavailable) {
		t.Errorf("deleted %d, %v; want 1 and ErrPartial", deleted, err)
	}
	c.expect(forgotten)
	l.sync(0, captured(l.dns(10), 11000))
	if l.table.reads != 2 {
		t.Errorf("table read %d times, want 2", l.table.reads)
	}
}

// given Syncs that fail while Services come and go, when one succeeds, then clients
// of all Services that are gone are forgotten.
func TestNothingIsForgottenByFailures(t *testing.T) {
	l := newLab(t, iptables.IPv4)
	var clients []*client
	for i := range byte(3) {
		port := 11000 + uint16(i)
		l.rule(l.dns(i), redirectTo(port)...)
		clients = append(clients, l.outside(l.dns(i)))
		if i > 0 {
			l.table.fails = unix.ENOBUFS
		}
		l.Sync(captured(l.dns(i), port), l.addresses())
	}
	l.sync(3, captured(l.dns(9), 11009))
	for _, c := range clients {
		c.expect(forgotten)
	}
	if want := map[uint16]bool{11009: true}; !maps.Equal(l.ports, want) {
		t.Errorf("ports remembered after a success: %v, want %v", l.ports, want)
	}
}

// given a process without CAP_NET_ADMIN, then Sync tells that it cannot work, and
// asks the kernel again only when something changes; given the permission, the
// next change finds everything that was left.
func TestUnavailable(t *testing.T) {
	l := newLab(t, iptables.IPv4)
	c := l.outside(l.dns(10))
	for i, step := range []struct {
		port  uint16
		reads int
	}{{11000, 1}, {11000, 1}, {11001, 2}} {
		var err error
		l.Do(func() {
			dropNetAdmin(t)
			_, err = l.Sync(captured(l.dns(10), step.port), l.addresses())
		})
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, unix.EPERM) || errors.Is(err, ErrPartial) {
			t.Errorf("step %d: error %v, want ErrUnavailable and EPERM", i, err)
		}
		if l.table.reads != step.reads {
			t.Errorf("step %d: %d attempts, want %d", i, l.table.reads, step.reads)
		}
	}
	c.expect(l.dns(10))
	l.sync(1, captured(l.dns(10), 11002))
}

// dropNetAdmin takes the permission from the calling thread, which dies soon.
func dropNetAdmin(t *testing.T) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&hdr, &data[0])
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err = errors.Join(err, unix.Capset(&hdr, &data[0])); err != nil {
		t.Fatal(err)
	}
}

// given an answer that the kernel gives without having looked at any entry, then
// the caller can tell that from an error that may pass.
func TestWhatErrorsMean(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{unix.EINVAL, ErrUnavailable}, // no nf_conntrack_netlink
		{unix.EPROTONOSUPPORT, ErrUnavailable},
		{netlink.ErrDumpInterrupted, ErrPartial},
		{unix.ENOBUFS, nil},
		{unix.EAGAIN, nil}, // the kernel is late
	} {
		got := explain(c.err)
		for _, meaning := range []error{ErrUnavailable, ErrPartial} {
			if errors.Is(got, meaning) != (meaning == c.want) {
				t.Errorf("%v means %v, want %v", c.err, got, c.want)
			}
		}
		if !errors.Is(got, c.err) {
			t.Errorf("%v does not tell its cause %v", got, c.err)
		}
	}
}
