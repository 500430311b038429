package policyroute

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

func (m *machine) changed() (changed bool) {
	m.t.Helper()
	m.Do(func() {
		var err error
		if changed, err = m.router.Changed(); err != nil {
			m.t.Error(err)
		}
	})
	return changed
}

// announced are Services in the subnets of the machine.
var announced = []Destination{
	{Addr: netip.MustParseAddr("192.0.2.77"), Protocol: TCP, Port: 80, Announced: true},
	{Addr: netip.MustParseAddr("2001:db8::77"), Protocol: TCP, Port: 80, Announced: true},
}

// given Services that are served, when somebody else changes what is ours, then that is
// noticed, told and mended, and nothing is when nobody does.
func TestChangesByOthersAreNoticed(t *testing.T) {
	m := newMachine(t, Options{})
	list := append(announced, some...)
	m.sync(false, some...)
	m.sync(false, list...)
	if m.changed() {
		t.Error("our own writes are somebody else's")
	}
	full, neighbours := sorted(m.state()), m.neighbours()
	for _, damage := range []string{
		"-4 rule del priority 21", "-6 rule del priority 20", "-4 rule flush",
		fmt.Sprintf("-4 rule add priority 22 ipproto tcp dport 81 lookup %d proto 118", tcpTables+81),
		fmt.Sprintf("-4 route flush table %d", tcpTables+80), fmt.Sprintf("-6 route flush table %d", wholeTCP),
		fmt.Sprintf("-4 route replace local 10.96.0.10 dev lo table %d src 127.0.0.1", tcpTables+80),
		"-6 address del 2001:db8::1/64 dev lo", "link del usher0", "-4 route del 192.0.0.8",
		"neigh del proxy 192.0.2.77 dev lo", "neigh del proxy 2001:db8::77 dev lo", "neigh add proxy 192.0.2.78 dev lo proto 118",
	} {
		m.Run("ip", strings.Fields(damage)...)
		if !m.changed() {
			t.Errorf("ip %s is not noticed", damage)
		}
		switch damage {
		case "-4 rule flush":
			m.Run("ip", "rule", "add", "priority", "32766", "lookup", "main")
			m.Run("ip", "rule", "add", "priority", "32767", "lookup", "default")
		case "-6 address del 2001:db8::1/64 dev lo":
			m.Run("ip", "address", "add", "2001:db8::1/64", "dev", "lo", "nodad")
		}
		m.sync(true, list...)
		if told := append(m.router.Drift(IPv4), m.router.Drift(IPv6)...); len(told) == 0 {
			t.Errorf("ip %s is not told", damage)
		}
		netns.Eventually(t, "all is as before ip "+damage, func() error { // the kernel's own routes come later
			if got := sorted(m.state()); got != full || m.neighbours() != neighbours {
				return fmt.Errorf("there is\n%s%s\nwant\n%s%s", got, m.neighbours(), full, neighbours)
			}
			return nil
		})
		m.changed() // addresses that are put back
		m.sync(true, list...)
		if told := append(m.router.Drift(IPv4), m.router.Drift(IPv6)...); len(told) > 0 || m.changed() {
			t.Errorf("after the repair of ip %s there still is %q", damage, told)
		}
	}
}

// The kernel does not tell of IPv4 routes that go with their interface.
func TestTheLossOfTheRefuserIsNoticed(t *testing.T) {
	m := newMachine(t, Options{})
	m.sync(false, some[0], some[3])
	full := m.state()
	for _, damage := range []string{"link set usher0 down", "link del usher0"} {
		m.Run("ip", strings.Fields(damage)...)
		if !m.changed() {
			t.Errorf("ip %s is not noticed", damage)
		}
		m.sync(true, some[0], some[3])
		if got := m.state(); sorted(got) != sorted(full) || m.changed() {
			t.Errorf("after ip %s there is\n%s\nwant\n%s", damage, got, full)
		}
	}
}

// What it costs to look whether others have changed anything, beside reading it all, with
// 10,000 Services of which none is announced, and with all.
func TestCostOfLooking(t *testing.T) {
	cost := func(n int, do func()) time.Duration {
		var before, after unix.Rusage
		unix.Getrusage(unix.RUSAGE_THREAD, &before)
		for range n {
			do()
		}
		unix.Getrusage(unix.RUSAGE_THREAD, &after)
		return time.Duration(after.Stime.Nano()+after.Utime.Nano()-before.Stime.Nano()-before.Utime.Nano()) / time.Duration(n)
	}
	for _, announce := range []bool{false, true} {
		m := newMachine(t, Options{})
		m.Run("ip", "address", "add", "10.96.0.0/16", "dev", "lo")
		list := manyServices(10000)
		for i := range list {
			list[i].Announced = announce
		}
		m.sync(false, list...)
		m.changed()
		m.Do(func() {
			look := cost(50, func() { m.router.Changed() })
			read := cost(10, func() { m.router.read(&familyState{terms: m.router.families[IPv4].terms}, true) })
			t.Logf("announced: %t: to look takes %s, to read it all %s", announce, look, read)
			if !announce && look > read/10 {
				t.Error("to look is not cheap")
			}
		})
	}
}

// What others do to theirs is no reason to look, also where it is much like ours.
func TestChangesOfOtherThingsAreNotNoticed(t *testing.T) {
	m := newMachine(t, Options{})
	m.sync(false, some...)
	m.changed()
	for _, foreign := range []string{
		"-4 rule add priority 22 ipproto tcp dport 80 lookup 100", "-6 rule add priority 20 lookup 100 proto 117",
		"-4 route add local 10.96.0.10 dev lo table 100 proto 118", "-4 route add local 10.96.0.10 dev lo table 1000",
		"-4 route add 10.97.0.0/16 dev lo proto 118", "-4 address add 198.51.100.1/32 dev lo", "-4 address del 198.51.100.1/32 dev lo",
		"neigh add proxy 192.0.2.90 dev lo",
	} {
		m.Run("ip", strings.Fields(foreign)...)
		if m.changed() {
			t.Errorf("ip %s is taken for a change of ours", foreign)
		}
	}
}

// given more changes by others than there is room for, then it may be that one matters.
func TestChangesThatAreLost(t *testing.T) {
	m := newMachine(t, Options{})
	m.sync(false, some...)
	var flood strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&flood, "route add local 10.97.%d.%d dev lo table %d\n", i/250, i%250, tcpTables+81)
	}
	cmd := m.Command(t.Context(), "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(flood.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.Do(func() {
		for _, want := range []bool{true, false} {
			if found, err := m.router.watch.any(func(uint16, []byte) bool { return false }); found != want || err != nil {
				t.Errorf("any: %t, %v; want %t", found, err, want)
			}
		}
	})
	// Ours are never too many.
	m.sync(true, manyServices(5000)...)
	if m.changed() {
		t.Error("our own writes overflow")
	}
}

// Whatever the kernel may send does no harm.
func FuzzConcerns(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWROUTE), make([]byte, 40))
	f.Add(uint16(unix.RTM_DELADDR), []byte{10, 64, 0, 0, 1, 0, 0, 0, 20, 0, 1, 0})
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		newRouter(nil, nil, Options{}).concerns(kind, body)
		fromNeighbour(body)
	})
}

// neighbours are all entries for others.
func (m *machine) neighbours() string {
	m.t.Helper()
	return m.Run("ip", "-4", "neigh", "show", "proxy") + m.Run("ip", "-6", "neigh", "show", "proxy")
}

// given entries that a killed process has left and entries of others, then the next
// process and Remove take away what is ours and not wanted, and only that.
func TestAnnouncementsThatWereLeft(t *testing.T) {
	m := newMachine(t, Options{})
	for _, foreign := range []string{"192.0.2.78 dev lo", "192.0.2.79 dev lo proto 117", "2001:db8::78 dev lo"} {
		m.Run("ip", strings.Fields("neigh add proxy "+foreign)...)
	}
	before := m.neighbours()
	shared := Destination{Addr: netip.MustParseAddr("192.0.2.78"), Protocol: TCP, Port: 80, Announced: true}
	m.sync(false, append(announced, shared)...)
	for _, want := range []string{"192.0.2.77 dev lo proxy proto 118", "2001:db8::77 dev lo proxy proto 118"} {
		if got := m.neighbours(); !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	m.router = m.newRouter(Options{}) // the one before was killed
	m.sync(false, announced[1])
	if got := m.neighbours(); strings.Contains(got, "192.0.2.77") || !strings.Contains(got, "2001:db8::77") {
		t.Errorf("the next process has\n%s", got)
	}
	m.Do(func() {
		if err := Remove(); err != nil {
			t.Error(err)
		}
	})
	if got := m.neighbours(); got != before {
		t.Errorf("there is\n%s\nbefore there was\n%s", got, before)
	}
}

// forgetful is a kernel before 5.2, which does not keep who has made an entry.
type forgetful struct{ kernel }

func (f forgetful) proxies(family Family) (map[proxied]bool, error) {
	found, err := f.kernel.proxies(family)
	for at := range found {
		found[at] = false
	}
	return found, err
}

// given such a kernel, then a process knows its own all the same.
func TestAnnouncementsOnOldKernels(t *testing.T) {
	m := newMachine(t, Options{})
	m.router.kernel = forgetful{m.router.kernel}
	m.sync(false, announced...)
	m.sync(true, announced...)
	if m.changed() {
		t.Error("our own entries are somebody else's")
	}
	m.sync(true)
	netns.Eventually(t, "nothing is left", func() error {
		if left := m.neighbours(); left != "" {
			return fmt.Errorf("left: %s", left)
		}
		return nil
	})
}
