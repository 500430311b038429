package policyroute

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
)

// machine is one on which nobody has made routes to Services yet.
type machine struct {
	*netns.NS
	t      *testing.T
	router *Router
}

func newMachine(t *testing.T, o Options) *machine {
	m := &machine{NS: netns.New(t, "node"), t: t}
	m.Run("ip", "address", "add", "192.0.2.1/24", "dev", "lo")
	m.Run("ip", "address", "add", "2001:db8::1/64", "dev", "lo", "nodad")
	netns.Eventually(t, "the kernel has made its own routes", func() error {
		if state := m.state(); !strings.Contains(state, "local 2001:db8::1 dev lo table local") {
			return errors.New(state)
		}
		return nil
	})
	m.router = m.newRouter(o)
	return m
}

// newRouter is another process.
func (m *machine) newRouter(o Options) (r *Router) {
	m.Do(func() {
		var err error
		if r, err = New(o); err != nil {
			m.t.Fatal(err)
		}
	})
	m.t.Cleanup(func() { m.Do(func() { r.Close() }) })
	return r
}

var sources = map[Family]netip.Addr{IPv4: netip.MustParseAddr("192.0.2.1"), IPv6: netip.MustParseAddr("2001:db8::1")}

func (m *machine) sync(verify bool, list ...Destination) {
	m.t.Helper()
	m.Do(func() {
		for family, src := range sources {
			var of []Destination
			for _, d := range list {
				if familyOf(d.Addr) == family {
					of = append(of, d)
				}
			}
			if err := m.router.Sync(family, of, src, verify); err != nil {
				m.t.Fatal(err)
			}
		}
	})
}

// state is all rules and routes; the interface that refuses has some of the kernel's.
func (m *machine) state() string {
	m.t.Helper()
	var kept []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(m.Run("ip", family, "rule") + m.Run("ip", family, "route", "show", "table", "all")) {
			if !strings.Contains(line, "ff00::/8 dev usher") {
				kept = append(kept, line)
			}
		}
	}
	return strings.Join(kept, "")
}

func (m *machine) mustBe(what, want string) {
	m.t.Helper()
	if got := m.state(); got != want {
		m.t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

var some = []Destination{tcp("10.96.0.10:80"), udp("10.96.0.10:53"), tcp("[fd00:10:96::10]:80"), refused(tcp("203.0.113.7:443")), udp("10.96.0.10:65535")}

// given Services, when they come, change and go, then the rules and routes follow, and
// nothing is left; whatever somebody else has taken is put back by a pass that verifies.
func TestSync(t *testing.T) {
	m := newMachine(t, Options{})
	empty := m.state()
	m.sync(false, some...)
	full := m.state()
	for _, want := range []string{
		"20:\tfrom all to 10.96.0.10 goto 22 proto 118",
		"21:\tfrom all goto 26 proto 118",
		fmt.Sprintf("22:\tfrom all ipproto tcp dport 80 lookup %d proto 118", tcpTables+80),
		fmt.Sprintf("local 10.96.0.10 dev lo table %d proto 118 scope host src 192.0.2.1", udpTables+53),
		fmt.Sprintf("local fd00:10:96::10 dev lo table %d proto 118 src 2001:db8::1", tcpTables+80),
	} {
		if !strings.Contains(full, want) {
			t.Errorf("%q is missing in\n%s", want, full)
		}
	}
	m.sync(true, some...)
	m.mustBe("verified", full)
	for _, damage := range []string{
		"-4 rule del priority 21", "-4 rule del priority 22", "-6 rule del priority 20",
		fmt.Sprintf("-4 route flush table %d", tcpTables+80), fmt.Sprintf("-6 route flush table %d", wholeTCP),
		fmt.Sprintf("-4 route replace local 10.96.0.10 dev lo table %d proto 118 src 127.0.0.1", tcpTables+80),
		fmt.Sprintf("-4 rule add priority 22 ipproto tcp dport 81 lookup %d proto 118", tcpTables+81),
		fmt.Sprintf("-4 route add local 10.96.0.99 dev lo table %d proto 118", tcpTables+80),
	} {
		m.Run("ip", strings.Fields(damage)...)
		if m.state() == full {
			t.Fatalf("ip %s does no damage", damage)
		}
		m.sync(true, some...)
		if got := sorted(m.state()); got != sorted(full) {
			t.Errorf("mended after ip %s:\n%s\nwant:\n%s", damage, got, sorted(full))
		}
	}
	m.sync(false, some[0])
	m.sync(false)
	m.mustBe("without Services", empty)
}

// sorted is without the order of rules that have one priority.
func sorted(state string) string {
	lines := strings.Split(state, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// given rules and routes of others, some of them much like ours, and what a process that
// was killed has left, when everything is removed, then only what others have stays.
func TestRemove(t *testing.T) {
	m := newMachine(t, Options{})
	for _, foreign := range []string{
		"-4 rule add priority 22 ipproto tcp dport 80 lookup 100", "-4 rule add priority 20 lookup 100 proto 117",
		"-4 route add local 10.96.0.10 dev lo table 100 proto 118", "-6 route add local default dev lo table 100",
		"-4 route add 10.97.0.0/16 dev lo proto 118",
	} {
		m.Run("ip", strings.Fields(foreign)...)
	}
	before := m.state()
	m.sync(false, some...)
	if m.state() == before {
		t.Fatal("nothing was added")
	}
	m.Do(func() {
		if err := Remove(); err != nil {
			t.Error(err)
		}
	})
	m.mustBe("removed by another process", before)
	m.sync(true, some...)
	m.Do(func() {
		if err := m.newRouter(Options{}).Sync(IPv4, []Destination{tcp("10.96.0.11:80")}, sources[IPv4], false); err != nil {
			t.Error(err)
		}
	})
	if state := m.state(); strings.Contains(state, "local 10.96.0.10 dev lo table 19") || !strings.Contains(state, "10.96.0.11") {
		t.Errorf("the next process keeps what the last one has left:\n%s", state)
	}
}

// given no policy routing, then the table local has the addresses.
func TestAnyIP(t *testing.T) {
	m := newMachine(t, Options{AnyIP: true})
	before := m.state()
	m.sync(false, some...)
	if state := m.state(); !strings.Contains(state, "local 10.96.0.10 dev lo table local proto 118") || strings.Contains(state, "goto") {
		t.Errorf("got\n%s", state)
	}
	m.sync(false)
	m.mustBe("removed", before)
}

// withoutRules is a kernel without CONFIG_IP_MULTIPLE_TABLES.
type withoutRules struct {
	kernel
	tables map[int]bool
}

func (withoutRules) rules(Family) (map[rule]bool, error) { return nil, explain(unix.EOPNOTSUPP) }
func (withoutRules) routes(Family) (map[place]way, error) {
	return map[place]way{}, nil
}
func (withoutRules) addRule(Family, rule) error { return explain(unix.EOPNOTSUPP) }
func (k withoutRules) setRoutes(_ Family, routes iter.Seq2[place, way]) error {
	for at := range routes {
		k.tables[at.table] = true
	}
	return nil
}

func (withoutRules) proxies(Family) (map[proxied]bool, error) { return nil, nil }

func (k withoutRules) deleteRoutes(Family, iter.Seq2[place, way]) error { return nil }

// given a kernel without policy routing, then that is found out.
func TestAnyIPIsFoundOut(t *testing.T) {
	k := withoutRules{tables: map[int]bool{}}
	r := newRouter(k, func() {}, Options{})
	if err := r.Sync(IPv4, []Destination{tcp("10.96.0.10:80")}, netip.Addr{}, false); err != nil {
		t.Fatal(err)
	}
	if !r.AnyIP(IPv4) || len(k.tables) != 1 || !k.tables[unix.RT_TABLE_LOCAL] {
		t.Errorf("AnyIP %t, routes in the tables %v", r.AnyIP(IPv4), k.tables)
	}
}

// failing writes half of the routes, once.
type failing struct {
	kernel
	failed bool
}

func (f *failing) setRoutes(family Family, routes iter.Seq2[place, way]) error {
	if f.failed {
		return f.kernel.setRoutes(family, routes)
	}
	f.failed = true
	for at, to := range routes {
		f.kernel.setRoutes(family, maps.All(map[place]way{at: to}))
		break
	}
	return errors.New("out of memory")
}

// given a write that fails, then the next Sync completes it.
func TestSyncAfterAFailure(t *testing.T) {
	m := newMachine(t, Options{})
	empty := m.state()
	m.sync(false, some...)
	full := m.state()
	m.sync(false)
	m.router.kernel = &failing{kernel: m.router.kernel}
	m.Do(func() {
		if err := m.router.Sync(IPv4, []Destination{some[0], some[1]}, sources[IPv4], false); err == nil {
			t.Error("no error")
		}
	})
	m.sync(false)
	m.mustBe("after half of the routes", empty)
	m.sync(false, some...)
	if got := sorted(m.state()); got != sorted(full) {
		t.Errorf("got\n%s\nwant\n%s", got, sorted(full))
	}
}

// The figures of 10,000 Services.
func TestTenThousand(t *testing.T) {
	m := newMachine(t, Options{})
	list := manyServices(10000)
	m.Do(func() {
		for _, step := range []struct {
			what string
			list []Destination
		}{{"10,000 Services", list[:9999]}, {"one added", list}, {"unchanged", list}, {"one removed", list[1:]}} {
			start := time.Now()
			if err := m.router.Sync(IPv4, step.list, sources[IPv4], false); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %s", step.what, time.Since(start))
		}
		start := time.Now()
		if err := m.router.Sync(IPv4, list[1:], sources[IPv4], true); err != nil {
			t.Fatal(err)
		}
		t.Logf("verified: %s", time.Since(start))
	})
	if n := strings.Count(m.Run("ip", "-4", "rule"), "\n"); n > 25 {
		t.Errorf("%d rules", n)
	}
	start := time.Now()
	m.sync(false)
	t.Logf("all removed: %s", time.Since(start))
}
