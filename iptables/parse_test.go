package iptables

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseRedirects(t *testing.T) {
	vip := netip.MustParseAddr("10.96.0.10")
	const web = `-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000`
	here := strings.Replace(web, "-m comment", "-m addrtype --src-type LOCAL -m comment", 1)
	redirect := Redirect{Name: "shop/web:http", Protocol: TCP, Addr: vip, Port: 80, To: 11000}
	with := func(change func(*Redirect)) Redirect {
		d := redirect
		change(&d)
		return d
	}
	for name, c := range map[string]struct {
		rules []string
		want  []Redirect
	}{
		"comment quoted": {
			[]string{web}, []Redirect{redirect}},
		"comment first": {
			[]string{"-d 10.96.0.10/32 -p udp -m comment --comment ns -m udp --dport 53 -j REDIRECT --to-ports 11001"},
			[]Redirect{{Name: "ns", Protocol: UDP, Addr: vip, Port: 53, To: 11001}}},
		"comment like a flag": {
			[]string{"-p tcp -m tcp --dport 30080 -m comment --comment -j -j REDIRECT --to-ports 11000"},
			[]Redirect{{Name: "-j", Protocol: TCP, Port: 30080, To: 11000}}},
		"sources": {
			[]string{"-s 10.1.0.0/16 " + web, "-s 10.2.0.0/16 " + web},
			[]Redirect{with(func(d *Redirect) { d.Sources = prefixes("10.1.0.0/16", "10.2.0.0/16") })}},
		"clients on the node": {
			[]string{here, "-s 10.244.1.0/24 " + web, "-i cali+ " + web},
			[]Redirect{with(func(d *Redirect) { d.Here = true })}},
		"both": {
			[]string{"-s 10.1.0.0/16 " + here, "-s 10.2.0.0/16 " + here, "-s 10.1.7.0/24 " + web, "-s 10.1.0.0/16 -i cali+ " + web},
			[]Redirect{with(func(d *Redirect) { d.Here, d.Sources = true, prefixes("10.1.0.0/16", "10.2.0.0/16") })}},
		"everybody after some": {
			[]string{here, "-s 10.244.1.0/24 " + web, web},
			[]Redirect{with(func(d *Redirect) { d.Here = true }), redirect}},
		"some after everybody": { // not our order
			[]string{web, "-s 10.1.0.0/16 " + web},
			[]Redirect{redirect, with(func(d *Redirect) { d.Sources = prefixes("10.1.0.0/16") })}},
		"twice everybody": {
			[]string{web, web}, []Redirect{redirect, redirect}},
		"of two ports": {
			[]string{here, "-s 10.1.0.0/16 " + strings.Replace(web, "11000", "11001", 1)},
			[]Redirect{with(func(d *Redirect) { d.Here = true }),
				with(func(d *Redirect) { d.To, d.Sources = 11001, prefixes("10.1.0.0/16") })}},
		"of two frontends": {
			[]string{here, strings.Replace(here, "--dport 80", "--dport 81", 1)},
			[]Redirect{with(func(d *Redirect) { d.Here = true }), with(func(d *Redirect) { d.Here, d.Port = true, 81 })}},
	} {
		if got := parseRedirects(IPv4, c.rules); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v\nwant %+v", name, got, c.want)
		}
	}
}

func TestParseRedirectsLeavesOutTheRulesOfOthers(t *testing.T) {
	for _, rule := range []string{
		"",
		"-d 10.96.0.0/16 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"! -d 10.96.0.1/32 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"! -s 10.0.0.1/32 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"! -i cni0 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"-o cni0 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"-p tcp -m tcp --dport 53 -m addrtype --src-type UNICAST -j REDIRECT --to-ports 11001",
		"-p tcp -m tcp --dport 53 -m addrtype ! --src-type LOCAL -j REDIRECT --to-ports 11001",
		"-p tcp -m tcp --dport 53 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 11001",
		"-d fd00::1/128 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001", // of IPv6
		"-p tcp -m tcp --dport 53 -j ACCEPT",
		"-p tcp -m tcp --dport 53:54 -j REDIRECT --to-ports 11001",
		"-p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001-11002",
	} {
		if got := parseRedirects(IPv4, []string{rule}); len(got) > 0 {
			t.Errorf("%q, which we never write, gives %+v", rule, got)
		}
	}
}

func TestWords(t *testing.T) {
	got := words(`-A X  -m comment --comment "a \"b\" \\ c" --log-prefix "" end`)
	want := []string{"-A", "X", "-m", "comment", "--comment", `a "b" \ c`, "--log-prefix", "", "end"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestForeignMarks(t *testing.T) {
	const saved = `# Generated
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m mark --mark 0x20000/0x20000 -j ACCEPT
-A PREROUTING -m mark ! --mark 0x0/0x30000 -j ACCEPT
-A PREROUTING -m mark --mark 0x1/0x1 -j ACCEPT
-A PREROUTING -m mark --mark 0x1 -j ACCEPT
-A PREROUTING -m mark --mark 0x20001 -j ACCEPT
-A PREROUTING -m connmark --mark 0x20000/0x20000 -j ACCEPT
-A PREROUTING -m comment --comment "--mark 0x20000" -j ACCEPT
-A OUTPUT -j MARK --set-xmark 0x1/0xffffffff
-A OUTPUT -j MARK --set-xmark 0x1/0x1
-A OUTPUT -j CONNMARK --set-xmark 0x20000/0x20000
-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff
-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A OUTPUT -j CONNMARK --save-mark
-A PREROUTING -p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x20000/0x20000
COMMIT
*nat
-A USHER-OUTPUT -m mark --mark 0x20000/0x20000 -j RETURN
COMMIT
`
	got := foreignMarks(saved, Mark{usherMark, usherMark})
	want := []string{
		"mangle: -A PREROUTING -m mark --mark 0x20000/0x20000 -j ACCEPT",
		"mangle: -A PREROUTING -m mark ! --mark 0x0/0x30000 -j ACCEPT",
		"mangle: -A PREROUTING -m mark --mark 0x20001 -j ACCEPT",
		"mangle: -A OUTPUT -j MARK --set-xmark 0x1/0xffffffff",
		"mangle: -A OUTPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
		"mangle: -A OUTPUT -j CONNMARK --save-mark",
		"mangle: -A PREROUTING -p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x20000/0x20000",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
}
