package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowd are the rules of a cluster that is big enough for trees of every kind.
func (l *lab) crowd() Rules {
	redirects := append(l.manyServices(400), pair(l.clientAddr(), 80, only(l.clientAddr()))...)
	for port := range uint16(2 * fullChain) { // all on one address, and in blocks of one
		redirects = append(redirects, Redirect{Name: "shop/dns:dns", Protocol: UDP, Addr: l.vip(0), Port: 1 + port, To: 20_000 + 2*port})
	}
	r := l.rules(redirects...)
	r.Pods = Pods{[]netip.Prefix{l.bridged()}, []string{"cali+"}}
	r.Returning = Mark{returnMark, returnMark}
	r.NodePortsOn = []netip.Prefix{l.bridged()}
	r.NotOnLoopback = true
	r.Open = []uint16{32000}
	return r
}

// What the kernel has is printed as we expect it, or there would be no end of
// differences.
func TestNothingIsDifferentAfterSync(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.addForeign()
		for _, layout := range layouts {
			if layout.family == v.family {
				l.sync(layout.rules)
				l.expectDifferent(layout.rules)
			}
		}
		r := l.crowd()
		l.sync(r)
		l.expectDifferent(r)
		l.expectText(r)
		expectSameRedirects(t, l.installed(), r.Redirects)

		r.Numbered = []string{"lo", "veth@if7", "br-1.2_x:y"} // as interfaces are called
		r.Redirects[0].Name, r.Redirects[1].Name = "", "a-b_c"
		l.sync(r)
		l.expectDifferent(r)
		for _, name := range hostile {
			r.Redirects[0].Name = name
			l.sync(r)
			l.expectDifferent(r)
		}
	})
}

// expectDifferent says what Diff tells, by the beginning of each.
func (l *lab) expectDifferent(r Rules, want ...string) {
	l.t.Helper()
	different := l.diff(r)
	for i, d := range different {
		if i >= len(want) || !strings.HasPrefix(d.String(), want[i]) {
			l.t.Errorf("not expected: %v", d)
		}
	}
	if len(different) < len(want) {
		l.t.Errorf("%d differences: %v\nwant %q", len(different), different, want)
	}
}

// expectText says that Text is what iptables-save prints of ours.
func (l *lab) expectText(r Rules) {
	l.t.Helper()
	ours := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " - [0:0]")
			if strings.Contains(line, chainPrefix) {
				lines = append(lines, strings.TrimSuffix(line, " -"))
			}
		}
		return slices.Sorted(slices.Values(lines))
	}
	if got, want := ours(r.Text(l.family)), ours(l.saved()); !slices.Equal(got, want) {
		l.t.Errorf("Text and iptables-save differ:\n%s\n\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func expectSameRedirects(t *testing.T, got, want []Redirect) {
	t.Helper()
	got, want = slices.SortedFunc(slices.Values(got), compare), Rules{Redirects: want}.canonical().Redirects
	if !slices.EqualFunc(got, want, func(a, b Redirect) bool { return compare(a, b) == 0 }) {
		t.Errorf("%d redirects were read back, want %d:\n%+v\n%+v", len(got), len(want), got, want)
	}
}

// Whatever somebody does to our rules is told, and undone; all else stays.
func TestVerifyRepairs(t *testing.T) {
	steps := []struct {
		name string
		do   func(l *lab)
		want []string // beginnings of the differences
	}{
		{"nothing", func(*lab) {}, nil},
		{"a nat-only flush", func(l *lab) { l.iptables("-t", nat, "-F") }, []string{
			"table nat: chain PREROUTING: missing: -A PREROUTING -j USHER-PREROUTING",
			"table nat: chain OUTPUT: missing: -A OUTPUT -j USHER-OUTPUT",
			"table nat: chain USHER-PREROUTING: missing: -A USHER-PREROUTING -i cni0",
			"table nat: chain USHER-OUTPUT: missing",
			"table nat: chain USHER-REDIRECT: missing",
			"table nat: chain USHER-SERVICES: missing: -A USHER-SERVICES -d",
			"table nat: chain USHER-NODEPORTS: missing",
			"table nat: chain USHER-DNAT: missing",
			"table nat: chain USHER-SERVICES-DNAT: missing",
			"table nat: chain USHER-NODEPORTS-DNAT: missing",
		}},
		{"a nat-only flush, and the chains removed", func(l *lab) { l.iptables("-t", nat, "-F"); l.iptables("-t", nat, "-X") }, []string{
			"table nat: chain PREROUTING: missing",
			"table nat: chain OUTPUT: missing",
			"table nat: chain USHER-PREROUTING: does not exist; missing",
			"table nat: chain USHER-OUTPUT: does not exist",
			"table nat: chain USHER-REDIRECT: does not exist",
			"table nat: chain USHER-SERVICES: does not exist",
			"table nat: chain USHER-NODEPORTS: does not exist",
			"table nat: chain USHER-DNAT: does not exist",
			"table nat: chain USHER-SERVICES-DNAT: does not exist",
			"table nat: chain USHER-NODEPORTS-DNAT: does not exist",
		}},
		{"one rule deleted", func(l *lab) { l.iptables("-t", nat, "-D", "USHER-SERVICES", "1") }, []string{
			"table nat: chain USHER-SERVICES: missing: -A USHER-SERVICES -d",
		}},
		{"a rule inserted", func(l *lab) { l.iptables("-t", nat, "-I", "USHER-NODEPORTS", "-p", "udp", "-j", "RETURN") }, []string{
			"table nat: chain USHER-NODEPORTS: not expected: -A USHER-NODEPORTS -p udp -j RETURN",
		}},
		{"a rule twice", func(l *lab) { l.iptables("-A", "USHER-INPUT", "-p", "tcp", "--dport", "32000", "-j", "ACCEPT") }, []string{
			"table filter: chain USHER-INPUT: not expected: -A USHER-INPUT -p tcp -m tcp --dport 32000 -j ACCEPT",
		}},
		{"a rule moved", func(l *lab) {
			l.iptables("-t", nat, "-D", "USHER-OUTPUT", "-g", "USHER-REDIRECT")
			l.iptables("-t", nat, "-I", "USHER-OUTPUT", "-g", "USHER-REDIRECT")
		}, []string{"table nat: chain USHER-OUTPUT: not in place: "}},
		{"a jump removed", func(l *lab) { l.iptables("-t", nat, "-D", "OUTPUT", "-j", "USHER-OUTPUT") }, []string{
			"table nat: chain OUTPUT: missing: -A OUTPUT -j USHER-OUTPUT",
		}},
		{"a jump that is second", func(l *lab) { l.iptables("-t", nat, "-I", "PREROUTING", "-p", "udp", "-j", "RETURN") }, []string{
			"table nat: chain PREROUTING: not in place: -A PREROUTING -j USHER-PREROUTING",
		}},
		{"a jump twice", func(l *lab) { l.iptables("-A", "INPUT", "-j", "USHER-INPUT") }, []string{
			"table filter: chain INPUT: not expected: -A INPUT -j USHER-INPUT",
		}},
		{"a chain renamed", func(l *lab) { l.iptables("-t", nat, "-E", "USHER-NODEPORTS", "USHER-NP") }, []string{
			"table nat: chain USHER-REDIRECT: missing: -A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NODEPORTS; not expected: -A USHER-REDIRECT -m addrtype --dst-type LOCAL -j USHER-NP",
			"table nat: chain USHER-NODEPORTS: does not exist; missing: -A USHER-NODEPORTS",
			"table nat: chain USHER-NP: is not needed any more; not expected: -A USHER-NP",
		}},
		{"a chain of an earlier version", func(l *lab) {
			l.iptables("-t", mangle, "-N", "USHER-OLD")
			l.iptables("-t", mangle, "-A", "PREROUTING", "-j", "USHER-RETURN")
		}, []string{"table mangle: chain PREROUTING: not expected: -A PREROUTING -j USHER-RETURN", "table mangle: chain USHER-OLD: is not needed any more"}},
		{"another process is in New", func(l *lab) { l.iptables("-t", nat, "-N", probeChain) }, nil},
		{"everything flushed", func(l *lab) {
			for _, table := range []string{nat, filter, mangle} {
				l.iptables("-t", table, "-F")
				l.iptables("-t", table, "-X")
			}
		}, nil},
	}
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.addForeign()
		r := l.rules(append(l.web(), pair(netip.Addr{}, 30_000)...)...)
		r.Returning, r.Open = Mark{returnMark, returnMark}, []uint16{32000}
		for _, step := range steps {
			l.sync(r)
			l.verify(r) // where the step before has left something
			step.do(l)
			if step.name == "everything flushed" {
				l.verify(r)
				l.expectDifferent(r)
				l.expectText(r)
				break
			}
			foreign := foreignRules(l.saved())
			l.expectDifferent(r, step.want...)
			if got := fmt.Sprint(l.diff(r)); got != fmt.Sprint(l.verify(r)) {
				t.Errorf("%s: Verify does not tell what Diff does: %s", step.name, got)
			}
			l.expectDifferent(r)
			if got := foreignRules(l.saved()); got != foreign {
				t.Errorf("%s: rules of others before:\n%s\nafter:\n%s", step.name, foreign, got)
			}
			if t.Failed() {
				t.Fatalf("after %s", step.name)
			}
		}
	})
}

// foreignRules is what iptables-save tells without what is ours.
func foreignRules(saved string) string {
	var b strings.Builder
	for l := range strings.Lines(saved) {
		if !strings.Contains(l, chainPrefix) {
			b.WriteString(l)
		}
	}
	return b.String()
}

// A Service more or less writes its chain, not those of the others.
func TestSyncWritesWhatChanged(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		x := &journal{}
		l.table = l.open(x)
		r := l.crowd()
		l.sync(r)
		x.restores = nil

		more := r
		more.Redirects = append(slices.Clone(r.Redirects), Redirect{Name: "new/new:new", Protocol: TCP, Addr: l.vip(100), Port: 81, To: 11_400})
		l.sync(more)
		l.sync(more)
		if len(x.restores) != 1 || strings.Count(x.restores[0], "\n-A ") > 4*fullChain {
			t.Errorf("%d writes for one more Service:\n%s", len(x.restores), strings.Join(x.restores, ""))
		}
		l.expectDifferent(more)
		l.sync(r)
		l.expectDifferent(r)

		x.restores = nil
		few := l.rules(l.web()...) // the trees go, and so does the mangle table
		l.sync(few)
		if len(x.restores) != 1 {
			t.Errorf("%d writes, want 1", len(x.restores))
		}
		l.expectDifferent(few)
		if got := l.saved(); strings.Count(got, "\n:USHER-") != 9 {
			t.Errorf("chains are left:\n%s", got)
		}
		l.sync(r)
		l.expectDifferent(r)
		expectSameRedirects(t, l.installed(), r.Redirects)
	})
}

// A new process finds the rules of the last one: what is the same stays, and what
// is not needed goes.
func TestANewProcessGoesOn(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		r := l.crowd()
		l.sync(r)
		l.iptables("-t", nat, "-N", "USHER-OLD")
		l.iptables("-t", nat, "-A", "USHER-OLD", "-j", "USHER-SERVICES")
		l.iptables("-t", nat, "-N", "USHER-LENT")
		l.iptables("-t", nat, "-A", "USHER-LENT", "-j", "RETURN")
		l.iptables("-t", nat, "-A", "OUTPUT", "-p", "udp", "-j", "USHER-LENT") // by somebody else
		x := &journal{}
		l.table = l.open(x)
		l.Do(func() { l.table.CanReturn(context.Background()) }) // asked of the kernel by a write
		x.restores = nil
		l.sync(r)
		if len(x.restores) != 1 || strings.Contains(x.restores[0], "-A USHER-") {
			t.Errorf("rules were written that are there: %s", strings.Join(x.restores, ""))
		}
		got := l.saved()
		if strings.Contains(got, "USHER-OLD") || strings.Contains(got, "-A USHER-LENT") || !strings.Contains(got, ":USHER-LENT") {
			t.Errorf("want USHER-OLD gone and USHER-LENT empty:\n%s", got)
		}
		l.expectDifferent(r)
	})
}

// After a write that failed the kernel is asked again.
func TestAFailedWriteLosesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		x := &journal{}
		l.table = l.open(x)
		r := l.crowd()
		l.sync(r)
		x.change = func(input string) string { return "*nat\n-A NO-SUCH-CHAIN -j RETURN\nCOMMIT\n" + input }
		more := r
		more.Redirects = append(slices.Clone(r.Redirects), Redirect{Name: "new/new:new", Protocol: TCP, Addr: l.vip(100), Port: 81, To: 11_400})
		l.Do(func() {
			if err := l.table.Sync(context.Background(), more); err == nil {
				t.Error("no error of a refused write")
			}
		})
		x.change = nil
		l.iptables("-t", nat, "-F", "USHER-OUTPUT") // meanwhile
		l.sync(more)
		l.expectDifferent(more)
	})
}

// Only the legacy backend has a lock. It is in the /run of the lab.
func TestALockHeldByAnother(t *testing.T) {
	for _, family := range []Family{IPv4, IPv6} {
		v := variant{family, "legacy"}
		t.Run(v.command(), func(t *testing.T) {
			l := newLab(t, v)
			l.table.lockWait = time.Second
			r := l.rules(l.web()...)
			l.sync(r)
			lock, err := os.OpenFile("/run/xtables.lock", os.O_RDONLY|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			l.sync(r) // nothing to write
			more := l.rules(append(l.web(), Redirect{Name: "new/new:new", Protocol: TCP, Addr: l.vip(100), Port: 81, To: 11_400})...)
			start := time.Now()
			l.Do(func() { err = l.table.Sync(context.Background(), more) })
			if !errors.Is(err, ErrLocked) || time.Since(start) < 900*time.Millisecond {
				t.Errorf("after %v: error %v, want ErrLocked after a second", time.Since(start), err)
			}
			lock.Close()
			l.expectDifferent(r)
			l.sync(more)
			l.expectDifferent(more)
		})
	}
}
