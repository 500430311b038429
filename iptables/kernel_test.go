package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// journal is an execer that writes down what is run, after it may have changed
// the input.
type journal struct {
	osExec
	restores []string            // inputs of iptables-restore
	change   func(string) string // of the input, nil to leave it
}

func (j *journal) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	if strings.HasSuffix(program, "-restore") && len(args) > 1 {
		if j.change != nil {
			stdin = j.change(stdin)
		}
		j.restores = append(j.restores, stdin)
	}
	return j.osExec.run(ctx, stdin, program, args...)
}

func TestTheKernelTakesEveryLayout(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		for _, layout := range layouts {
			if layout.family != v.family {
				continue
			}
			t.Run(layout.name, func(t *testing.T) {
				l := newLab(t, v)
				l.sync(layout.rules)
				// Ours come out as they went in; in which order the chains
				// are is the backend's choice.
				for _, rule := range strings.Split(layout.want, "\n") {
					if strings.HasPrefix(rule, "-A ") && !strings.Contains(l.saved(), rule+"\n") {
						t.Errorf("not saved: %s", rule)
					}
				}
				want := layout.rules.canonical().Redirects
				if layout.rules.Ending {
					want = nil
				}
				if got := slices.SortedFunc(slices.Values(l.installed()), compare); !reflect.DeepEqual(got, want) {
					t.Errorf("read back %+v, want %+v", got, want)
				}
			})
		}
	})
}

func TestJumpsAreFirst(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		r := l.rules(l.web()...)
		r.Returning = Mark{returnMark, returnMark}
		for _, j := range r.jumps() {
			l.iptables("-t", j.table, "-A", j.from, "-s", l.clientAddr().String(), "-j", "RETURN")
		}
		l.sync(r)
		l.expectJumps(r)

		for _, j := range r.jumps() { // someone comes before us
			l.iptables("-t", j.table, "-I", j.from, "-s", l.clientAddr().String(), "-j", "RETURN")
		}
		l.verify(r)
		l.expectJumps(r)

		for _, j := range r.jumps() { // and doubles our jumps
			l.iptables("-t", j.table, "-A", j.from, "-j", j.to)
		}
		l.verify(r)
		l.expectJumps(r)
		for _, j := range r.jumps() {
			if got := l.iptables("-t", j.table, "-S", j.from); strings.Count(got, "-j RETURN\n") != 2 {
				t.Errorf("the rules of others changed:\n%s", got)
			}
		}
	})
}

// expectJumps says that each jump of the rules is there once, and first.
func (l *lab) expectJumps(r Rules) {
	l.t.Helper()
	for _, j := range r.jumps() {
		rules := strings.Split(l.iptables("-t", j.table, "-S", j.from), "\n")[1:]
		want := "-A " + j.from + " -j " + j.to
		if rules[0] != want || slices.Contains(rules[1:], want) {
			l.t.Errorf("want only the first to be %q:\n%s", want, strings.Join(rules, "\n"))
		}
	}
}

func TestSyncOfTheSameWritesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		x := &journal{}
		l.table = l.open(x)
		x.restores = nil // of the probe

		r := l.rules(l.web()...)
		l.sync(r)
		before := l.saved()
		slices.Reverse(r.Redirects)
		l.sync(r)
		if len(x.restores) != 1 {
			t.Errorf("%d writes for two times the same rules, want 1", len(x.restores))
		}
		if after := l.saved(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		l.sync(l.rules(l.web()[:1]...))
		if len(x.restores) != 2 {
			t.Errorf("%d writes after a change, want 2", len(x.restores))
		}
	})
}

// iptables -F and -X, or another tool's idea of a clean start.
func TestVerifyAfterAFlush(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		r := l.rules(l.web()...)
		r.Returning = Mark{returnMark, returnMark}
		l.sync(r)
		before := l.saved()
		for _, table := range []string{nat, filter, mangle} {
			l.iptables("-t", table, "-F")
			l.iptables("-t", table, "-X")
		}
		l.verify(r)
		if after := l.saved(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestARefusedWriteChangesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		x := &journal{}
		l.table = l.open(x)
		l.sync(l.rules(l.web()...))
		before := l.saved()

		const bad = "-A USHER-INPUT -j NOSUCHTARGET"
		x.change = func(input string) string { return strings.Replace(input, "COMMIT", bad+"\nCOMMIT", 1) }
		more := append(l.web(), Redirect{Name: "more", Protocol: TCP, Addr: l.vip(30), Port: 80, To: 11005})
		var err error
		l.Do(func() { err = l.table.Sync(context.Background(), l.rules(more...)) })
		if err == nil || !strings.Contains(err.Error(), "NOSUCHTARGET") {
			t.Errorf("error %v does not say what was refused", err)
		}
		if after := l.saved(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}

		x.change = nil
		l.sync(l.rules(more...))
		if got := len(l.installed()); got != len(more) {
			t.Errorf("%d redirects after the next Sync, want %d", got, len(more))
		}
	})
}

func TestARefusedLineIsTold(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		x := &journal{}
		l.table = l.open(x)
		var err error
		l.Do(func() {
			err = l.table.restore(context.Background(), "*nat\n:USHER-X - [0:0]\n-A USHER-X --nosuchflag\nCOMMIT\n")
		})
		if err == nil || !strings.Contains(err.Error(), `in "-A USHER-X --nosuchflag"`) {
			t.Errorf("error %v does not quote the line", err)
		}
	})
}

func TestANewProcessReadsThePortsBack(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		redirects := append(l.web(), Redirect{
			Name: "kube-system/dns:dns", Protocol: UDP, Addr: l.vip(11), Port: 53, To: dnsPort - 1,
		})
		redirects = append(redirects,
			Redirect{Name: "shop/web:http/local", Protocol: TCP, Port: nodePort + 1, To: elsePort},
			Redirect{Name: "shop/web:http", Protocol: TCP, Port: nodePort + 1, To: webPort, Here: true,
				Sources: []netip.Prefix{only(l.clientAddr()), only(l.nodeAddr())}})
		dns := fmt.Sprintf("kube-system/dns:dns/%v:53", l.vip(11))
		redirects = append(redirects,
			Redirect{Name: dns, Protocol: UDP, Addr: l.vip(11), Port: 53, To: dnsPort + 1, Here: true},
			Redirect{Name: dns + "/local", Protocol: UDP, Addr: l.vip(11), Port: 53, To: dnsPort + 2},
			Redirect{Name: "kube-system/dns:dns/NODEPORT", Protocol: UDP, Port: nodePort, To: dnsPort + 3})
		l.sync(l.rules(redirects...))
		l.iptables("-t", "nat", "-A", "USHER-SERVICES", "-p", "tcp", "-j", "RETURN") // not by us
		l.iptables("-t", "nat", "-A", "USHER-SERVICES", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "1")

		next := l.open(osExec{})
		var got map[Key]uint16
		var err error
		l.Do(func() { got, err = next.Assigned(context.Background()) })
		want := map[Key]uint16{
			{"shop/web:http", TCP}:       webPort,
			{"shop/web:http/local", TCP}: elsePort,
			{"kube-system/dns:dns", UDP}: dnsPort - 1,
			{dns, UDP}:                   dnsPort + 1,
			{dns + "/local", UDP}:        dnsPort + 2,

			{"kube-system/dns:dns/NODEPORT", UDP}: dnsPort + 3,
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("assigned %v, error %v, want %v", got, err, want)
		}
	})
}

func TestHostileNamesInTheKernel(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		before := l.saved()
		var redirects []Redirect
		for i, name := range hostile {
			redirects = append(redirects, Redirect{Name: name, Protocol: TCP, Addr: l.vip(byte(i + 1)), Port: 80, To: 11000})
		}
		r := l.rules(redirects...)
		r.Numbered = append(r.Numbered, "eth+", "!eth1", `"`, "a\nCOMMIT", "-j", "")
		l.sync(r)
		var got []Redirect
		for i, d := range slices.SortedFunc(slices.Values(l.installed()), compare) {
			if want := comment(hostile[i]); d.Name != want {
				t.Errorf("%q was read back as %q, want %q", hostile[i], d.Name, want)
			}
			got = append(got, d)
		}
		if len(got) != len(hostile) {
			t.Errorf("%d rules, want %d", len(got), len(hostile))
		}
		l.cleanup()
		if after := l.saved(); after != before {
			t.Errorf("foreign rules before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestContextAndInvalidRules(t *testing.T) {
	l := newLab(t, variant{IPv4, "nft"})
	before := l.saved()
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	l.Do(func() {
		if err := l.table.Sync(canceled, l.rules(l.web()...)); !errors.Is(err, context.Canceled) {
			t.Errorf("Sync: %v, want canceled", err)
		}
		if err := l.table.Cleanup(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("Cleanup: %v, want canceled", err)
		}
		if _, err := l.table.Assigned(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("Assigned: %v, want canceled", err)
		}
		if err := l.table.CanReturn(canceled); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
			t.Errorf("CanReturn: %v, want canceled, which is no answer", err)
		}
		if _, err := l.table.ForeignMarks(canceled, Mark{1, 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("ForeignMarks: %v, want canceled", err)
		}
		wrong := l.rules(Redirect{Name: "shop/web", Protocol: TCP, Addr: netip.MustParseAddr("fd00::1"), Port: 80, To: 11000})
		if err := l.table.Sync(context.Background(), wrong); err == nil || !strings.Contains(err.Error(), `"shop/web"`) {
			t.Errorf("Sync: %v, want the name of the invalid redirect", err)
		}
	})
	if after := l.saved(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestForeignMarksInTheKernel(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.sync(l.rules(l.web()...))
		l.iptables("-t", "mangle", "-A", "PREROUTING", "-m", "mark", "--mark", "0x10000/0x10000", "-j", "ACCEPT")
		l.iptables("-t", "mangle", "-A", "OUTPUT", "-j", "MARK", "--or-mark", "0x60000")
		l.iptables("-t", "nat", "-A", "POSTROUTING", "-m", "mark", "!", "--mark", "0x20000/0x20000", "-j", "RETURN")
		var got []string
		var err error
		l.Do(func() { got, err = l.table.ForeignMarks(context.Background(), Mark{usherMark, usherMark}) })
		want := []string{
			"mangle: -A OUTPUT -j MARK --set-xmark 0x60000/0x60000",
			"nat: -A POSTROUTING -m mark ! --mark 0x20000/0x20000 -j RETURN",
		}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("found %q, error %v, want %q", got, err, want)
		}
	})
}

// Whoever comes last wins, and neither leaves half of its rules.
func TestConcurrentCallsTakeTurns(t *testing.T) {
	l := newLab(t, variant{IPv4, "nft"})
	var wg sync.WaitGroup
	for i := range byte(4) {
		wg.Go(func() {
			r := l.rules(Redirect{Name: "shop/web", Protocol: TCP, Addr: l.vip(i), Port: 80, To: webPort})
			l.Do(func() {
				if err := l.table.Sync(context.Background(), r); err != nil {
					t.Error(err)
				}
				if _, err := l.table.Assigned(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
	wg.Wait()
	l.expectJumps(l.rules())
	if got := l.installed(); len(got) != 1 {
		t.Errorf("installed %v, want one redirect", got)
	}
}
