package transparent

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/test/netns"
)

// routing is a machine of one family on which nobody has made connections from
// other addresses yet.
type routing struct {
	*netns.NS
	family iptables.Family
	t      *testing.T
}

func eachRouting(t *testing.T, test func(t *testing.T, r *routing)) {
	for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		t.Run(family.String(), func(t *testing.T) {
			test(t, &routing{netns.New(t, "node"), family, t})
		})
	}
}

// ip runs the command ip for the family.
func (r *routing) ip(args ...string) string {
	r.t.Helper()
	return r.Run("ip", append([]string{fmt.Sprintf("-%d", r.family)}, args...)...)
}

func (r *routing) ensure(m iptables.Mark) (err error) {
	r.Do(func() { err = Routes{m}.Ensure(r.family) })
	return err
}

func (r *routing) mustEnsure(m iptables.Mark) {
	r.t.Helper()
	if err := r.ensure(m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *routing) mustRemove() {
	r.t.Helper()
	var err error
	r.Do(func() { err = Remove() })
	if err != nil {
		r.t.Fatal(err)
	}
}

// state is all rules and routes of the family.
func (r *routing) state() string {
	r.t.Helper()
	return r.ip("rule") + r.ip("route", "show", "table", "all")
}

func (r *routing) mustBe(what, want string) {
	r.t.Helper()
	if got := r.state(); got != want {
		r.t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

// given a machine, when usher's routes are ensured, then there are three rules
// and a route that say whose they are; ensuring again changes nothing.
func TestEnsure(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		r.mustEnsure(mark)
		state := r.state()
		for _, want := range []string{
			"5:\tfrom all fwmark 0x40000/0x40000 iif lo goto 7 proto 117",
			"6:\tfrom all fwmark 0x40000/0x40000 lookup 87437 proto 117",
			"7:\tfrom all nop proto 117",
			"local default dev lo table 87437 proto 117",
		} {
			if !strings.Contains(state, want) {
				t.Errorf("%q is missing in:\n%s", want, state)
			}
		}
		r.mustEnsure(mark)
		r.mustBe("ensured twice", state)
	})
}

// given usher's routes, when any part of them disappears, then the next pass
// puts it back.
func TestEnsureMends(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		r.mustEnsure(mark)
		state := r.state()
		for _, damage := range [][]string{
			{"rule", "del", "priority", "5"},
			{"rule", "del", "priority", "6"},
			{"rule", "del", "priority", "7"},
			{"route", "flush", "table", fmt.Sprint(Table)},
			{"link", "set", "lo", "down"},
		} {
			r.ip(damage...)
			r.ip("link", "set", "lo", "up")
			if damage[0] != "link" && r.state() == state { // IPv4 routes outlive that
				t.Fatalf("ip %v does no damage", damage)
			}
			r.mustEnsure(mark)
			r.mustBe(fmt.Sprintf("mended after ip %v", damage), state)
		}
	})
}

// given rules and routes of others, some of them like usher's, when usher's
// have been there and are removed, then everything is as it was before.
func TestRemoveLeavesNoTrace(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		r.ip("rule", "add", "priority", "5", "fwmark", "0x1/0x1", "lookup", "100")
		r.ip("rule", "add", "priority", "6", "iif", "lo", "lookup", "100", "proto", "117")
		r.ip("rule", "add", "priority", "7", "fwmark", "0x2/0x2", "lookup", "main", "proto", "static")
		r.ip("route", "add", "local", "default", "dev", "lo", "table", "100")
		r.ip("route", "add", "local", "default", "dev", "lo", "table", "101", "proto", "117")
		before := r.state()
		r.mustRemove()
		r.mustBe("after removing nothing", before)
		r.mustEnsure(mark)
		if r.state() == before {
			t.Error("nothing was added")
		}
		r.mustRemove()
		r.mustBe("after removing", before)
	})
}

// given somebody else's route in usher's table, when usher's are removed, then
// that one stays.
func TestRemoveSparesARouteInTheTable(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		r.ip("route", "add", "blackhole", "default", "metric", "5", "table", fmt.Sprint(Table))
		before := r.state()
		r.mustRemove()
		r.ip("route", "flush", "table", fmt.Sprint(Table))
		r.mustEnsure(mark)
		r.ip("route", "add", "blackhole", "default", "metric", "5", "table", fmt.Sprint(Table))
		r.mustRemove()
		r.mustBe("after removing", before)
	})
}

// given what a process with another mark has left, when the next one starts,
// then only its own rules stay; when nobody starts, then Remove finds them.
func TestWhatAFormerProcessLeft(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		empty := r.state()
		r.mustEnsure(mark)
		only := r.state()
		r.mustRemove()

		former := iptables.Mark{Value: 0x300, Mask: 0x700}
		r.mustEnsure(former)
		r.mustEnsure(mark)
		r.mustBe("with the new mark", only)
		r.mustRemove()

		r.mustEnsure(former)
		r.mustRemove()
		r.mustBe("removed by another process", empty)
	})
}

// given somebody else who uses the table or the mark, when usher wants to, then
// it changes nothing and says who and what.
func TestForeignersInTheWay(t *testing.T) {
	const table = "87437"
	for name, c := range map[string]struct {
		add  []string
		want []string // the error says
	}{
		"route in the table":     {[]string{"route", "add", "unreachable", "default", "table", table}, []string{"table 87437", "somebody else"}},
		"rule to the table":      {[]string{"rule", "add", "priority", "300", "lookup", table}, []string{"priority 300", "table 87437"}},
		"rule for the mark":      {[]string{"rule", "add", "priority", "400", "fwmark", "0x40000/0x40000", "lookup", "main"}, []string{"priority 400", "0x40000/0x40000", "--return-mark"}},
		"rule without the mark":  {[]string{"rule", "add", "priority", "400", "fwmark", "0/0x40000", "lookup", "main"}, []string{"priority 400"}},
		"rule for not the mark":  {[]string{"rule", "add", "not", "priority", "400", "fwmark", "0x40000/0x40000", "lookup", "main"}, []string{"priority 400"}},
		"rule for more bits":     {[]string{"rule", "add", "priority", "400", "fwmark", "0x60000/0xf0000", "lookup", "main"}, []string{"priority 400"}},
		"rule for the whole one": {[]string{"rule", "add", "priority", "400", "fwmark", "0x40001", "lookup", "main"}, []string{"priority 400", "0x40001/0xffffffff"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachRouting(t, func(t *testing.T, r *routing) {
				r.ip(c.add...)
				before := r.state()
				err := r.ensure(mark)
				if err == nil {
					t.Fatal("no error")
				}
				for _, want := range append(c.want, r.family.String()) {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q does not say %q", err, want)
					}
				}
				r.mustBe("after the error", before)
			})
		})
	}
}

// given rules of others with marks that have nothing to do with usher's, then
// they are not in the way.
func TestForeignMarks(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		r.ip("rule", "add", "priority", "99", "not", "fwmark", "0x200000/0x200000", "lookup", "1") // Calico with WireGuard
		r.ip("rule", "add", "priority", "1024", "fwmark", "0x80/0x80", "lookup", "main")           // Amazon
		r.ip("rule", "add", "priority", "9", "fwmark", "0x200/0xf00", "lookup", "2004")            // Cilium
		r.ip("rule", "add", "priority", "98", "iif", "lo", "lookup", "main")
		r.mustEnsure(mark)
	})
}

// given a mark that cannot be, when routes are ensured, then there is an error
// and no rule: a rule for mark 0 would keep all packets here.
func TestBadMarks(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		before := r.state()
		for _, m := range []iptables.Mark{{}, {Value: 0, Mask: 1}, {Value: 2, Mask: 1}, {Value: 1}} {
			if err := r.ensure(m); err == nil || !strings.Contains(err.Error(), markName(m)) {
				t.Errorf("mark %s: error %v", markName(m), err)
			}
		}
		r.mustBe("after the errors", before)
	})
}

// given rules and routes in place, when a process without the capability
// ensures them, then the error says what its sockets need.
func TestEnsureNeedsACapability(t *testing.T) {
	eachRouting(t, func(t *testing.T, r *routing) {
		r.mustEnsure(mark)
		r.Do(func() {
			// Of this thread only, which ends here.
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			if err := unix.Capset(&header, &none[0]); err != nil {
				t.Fatal(err)
			}
			err := Routes{mark}.Ensure(r.family)
			if !errors.Is(err, unix.EPERM) || errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
				t.Errorf("error %v; want EPERM, CAP_NET_ADMIN and not ErrUnsupported", err)
			}
		})
	})
}

// given answers of a kernel that lacks something, then the error is
// ErrUnsupported and keeps what the kernel said.
func TestExplain(t *testing.T) {
	for errno, want := range map[syscall.Errno]bool{
		unix.EOPNOTSUPP: true, unix.EAFNOSUPPORT: true, unix.ENOPROTOOPT: true,
		unix.EPERM: false, unix.EINVAL: false,
	} {
		if err := explain(errno); errors.Is(err, ErrUnsupported) != want || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if explain(nil) != nil {
		t.Error("an error for nil")
	}
}
