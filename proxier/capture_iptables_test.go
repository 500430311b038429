package proxier

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/iptables"
)

// redirecting is a capture for listeners without sockets in the kernel, on an
// iptables that keeps what it is told to itself.
type redirecting struct {
	*redirect
	t      testing.TB
	dir    string
	log    strings.Builder
	served []*listener
	node   *nodeState
}

func newRedirecting(t testing.TB, n int) *redirecting {
	r := &redirecting{t: t, dir: t.TempDir()}
	r.script("iptables", "")
	r.script("iptables-restore", "echo >> runs; cat > written\n")
	r.script("iptables-save", "echo >> runs; cat saved 2>/dev/null || true\n")
	table, err := iptables.New(iptables.IPv4, iptables.Command(filepath.Join(r.dir, "iptables")))
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.Out = &r.log
	r.redirect = &redirect{
		log: log, source: &clientSource{works: map[Family]*atomic.Bool{IPv4: {}}}, tables: map[Family]*iptables.Table{IPv4: table},
		ports: map[Family]*portTable{IPv4: newPortTable(PortRange{11000, 29999}, nil)}, applied: map[Family]*iptables.Rules{},
		last: map[Family]iptables.Rules{}, rendered: map[*listener]*rendered{}, denied: map[Family]*streamSocket{},
	}
	addresses := nodeAddresses{map[string][]netip.Addr{"eth0": {netip.MustParseAddr("192.0.2.1")}, "cali1": nil}}
	r.node = newNodeState(&Config{}, addresses, nil, nil)
	for i := range n {
		r.add(i)
	}
	r.runs()
	return r
}

// script makes a program of iptables.
func (r *redirecting) script(name, body string) {
	r.t.Helper()
	body = "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '" + name + " v1.8.9 (legacy)'; exit; fi\ncd " + r.dir + "\n" + body
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(body), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// runs counts the programs that have been run since the last time.
func (r *redirecting) runs() int {
	name := filepath.Join(r.dir, "runs")
	lines, _ := os.ReadFile(name)
	os.Remove(name)
	return len(lines)
}

// written is what the last iptables-restore was given.
func (r *redirecting) written() string {
	text, _ := os.ReadFile(filepath.Join(r.dir, "written"))
	return string(text)
}

// add serves one Service more.
func (r *redirecting) add(i int) {
	key := Key{ServicePort{Namespace: "shop", Name: fmt.Sprint("web", i), Port: "http", Protocol: tcpProtocol}, IPv4}
	l := &listener{key: key, sockets: []*socket{{addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(11000+i)), set: ClusterSet}}}
	r.served = append(r.served, l)
	r.port(l, uint16(i))
}

// port gives a listener a new Port, as a pass does that computes all of them.
func (r *redirecting) port(l *listener, n uint16) {
	addr := netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)})
	l.current.Store(&state{port: &Port{Key: l.key, Frontends: []Frontend{{Kind: ClusterIP, Addr: addr, Port: 80, Policy: Cluster}}}})
}

func (r *redirecting) pass(verify bool) {
	r.t.Helper()
	for _, err := range r.apply(context.Background(), r.served, r.node, verify) {
		r.t.Fatal(err)
	}
}

// expect says what the next pass writes in one run, by what is in it: everything
// if nothing is named.
func (r *redirecting) expect(when string, services int, rules ...string) {
	r.t.Helper()
	r.runs()
	r.pass(false)
	got := r.written()
	if n := r.runs(); n != 1 {
		r.t.Errorf("%s: %d programs were run, want 1", when, n)
	}
	if n := len(r.applied[IPv4].Redirects); n != services {
		r.t.Errorf("%s: %d redirects, want %d", when, n, services)
	}
	for _, rule := range rules {
		if !strings.Contains(got, rule) {
			r.t.Errorf("%s: want %q in:\n%s", when, rule, got)
		}
	}
}

func TestRedirectsFollowTheListeners(t *testing.T) {
	r := newRedirecting(t, 100)
	r.pass(false)
	r.add(100)
	r.expect("one more", 101, "-d 10.96.0.100/32 -p tcp -m tcp --dport 80")
	r.served = r.served[1:]
	r.expect("one less", 100, "-A USHER-10.96.0.0/28 -d 10.96.0.1/32")
	if got := r.written(); strings.Contains(got, "10.96.0.0/32") || strings.Contains(got, "10.96.0.100/32") {
		t.Errorf("more was written than has changed:\n%s", got)
	}
	r.served = r.served[1:]
	r.add(101)
	r.expect("another one", 100, "-d 10.96.0.101/32")
	r.served[0].sockets = nil // could not be had
	r.expect("one without a socket", 99)
	if got := r.written(); strings.Contains(got, "-d 10.96.0.2/32") {
		t.Errorf("a rule leads to nobody:\n%s", got)
	}
	r.port(r.served[2], 5000)
	r.expect("another address", 99, "-d 10.96.19.136/32")
}

// A pass in which no listener changes neither renders nor runs anything.
func TestAPassWithoutChangesLeavesTheRulesAlone(t *testing.T) {
	r := newRedirecting(t, 100)
	r.pass(false)
	before := r.rendered[r.served[0]]
	for i, l := range r.served {
		r.port(l, uint16(i)) // computed again, the same
	}
	r.runs()
	r.pass(false)
	if n := r.runs(); n > 0 || r.rendered[r.served[0]] != before {
		t.Errorf("%d programs were run, or redirects rendered again, though nothing has changed", n)
	}
}

func TestWhatOthersChangeIsToldAndRepaired(t *testing.T) {
	r := newRedirecting(t, 100)
	r.pass(true) // nothing is there; that is nobody's fault
	r.runs()
	if r.log.Len() > 0 {
		t.Errorf("told at the start: %s", r.log.String())
	}
	r.pass(true)
	if n := r.runs(); n != 2 { // to read, and to write
		t.Errorf("%d programs were run, want 2", n)
	}
	if got := r.log.String(); !strings.Contains(got, "somebody else has changed usher's rules") || !strings.Contains(got, "chain USHER-INPUT: does not exist") {
		t.Errorf("the log does not tell: %s", got)
	}
	text := r.applied[IPv4].Text(iptables.IPv4)
	if err := os.WriteFile(filepath.Join(r.dir, "saved"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.pass(true)
	if n := r.runs(); n != 1 {
		t.Errorf("%d programs were run, want one to read what is all right", n)
	}
	if n := strings.Count(r.log.String(), "somebody else"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

func TestAFailedPassIsRepeated(t *testing.T) {
	r := newRedirecting(t, 3)
	r.pass(false)
	r.add(3)
	r.script("iptables-restore", "echo >> runs; echo no memory >&2; exit 1\n")
	if failed := r.apply(context.Background(), r.served, r.node, false); failed[IPv4] == nil {
		t.Error("no error")
	}
	r.script("iptables-restore", "echo >> runs; cat > written\n")
	r.runs()
	r.pass(false)
	if n := r.runs(); n != 2 { // asks the kernel, and writes
		t.Errorf("%d programs were run, want 2", n)
	}
	if got := r.written(); strings.Count(got, " -j REDIRECT ") != 4 {
		t.Errorf("not everything was written:\n%s", got)
	}
}

// BenchmarkApply is a pass at 10,000 Services, with every Port computed anew.
func BenchmarkApply(b *testing.B) {
	r := newRedirecting(b, 10_000)
	r.pass(false)
	again := func() {
		for i, l := range r.served {
			r.port(l, uint16(i))
		}
	}
	b.Run("nothing new", func(b *testing.B) {
		again()
		for b.Loop() {
			r.pass(false)
		}
	})
	b.Run("one Service more or less", func(b *testing.B) {
		r.add(10_000)
		for i := 0; b.Loop(); i++ {
			last := r.served[10_000]
			if i%2 == 0 {
				r.served = r.served[:10_000]
			}
			r.pass(false)
			r.served = append(r.served[:10_000], last)
		}
	})
}
