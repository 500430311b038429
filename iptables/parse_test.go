package iptables

import (
	"net/netip"
	"slices"
	"testing"
)

func TestParseRedirect(t *testing.T) {
	vip := netip.MustParseAddr("10.96.0.10")
	for rule, want := range map[string]Redirect{
		`-A USHER-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -m comment --comment "ns/dns:tcp" -j REDIRECT --to-ports 11001`: {
			Name: "ns/dns:tcp", Protocol: TCP, Addr: vip, Port: 53, To: 11001},
		`-A USHER-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment ns -m udp --dport 53 -j REDIRECT --to-ports 11001`: {
			Name: "ns", Protocol: UDP, Addr: vip, Port: 53, To: 11001},
		`-A USHER-SERVICES -d fd00::1/128 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001`: {
			Protocol: TCP, Addr: netip.MustParseAddr("fd00::1"), Port: 53, To: 11001},
		`-A USHER-NODEPORTS -p tcp -m tcp --dport 30080 -m comment --comment -j -j REDIRECT --to-ports 11000`: {
			Name: "-j", Protocol: TCP, Port: 30080, To: 11000},
	} {
		if got, ok := parseRedirect(rule); !ok || got != want {
			t.Errorf("%s\ngives %+v, %v\nwant  %+v", rule, got, ok, want)
		}
	}
	for _, rule := range []string{
		"",
		"-N USHER-SERVICES", // its declaration
		"-A USHER-SERVICES -d 10.96.0.0/16 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"-A USHER-SERVICES ! -d 10.96.0.1/32 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"-A USHER-SERVICES -s 10.0.0.1/32 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001",
		"-A USHER-SERVICES -p tcp -m tcp --dport 53 -j ACCEPT",
		"-A USHER-SERVICES -p tcp -m tcp --dport 53:54 -j REDIRECT --to-ports 11001",
		"-A USHER-SERVICES -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 11001-11002",
	} {
		if got, ok := parseRedirect(rule); ok && got.validate(IPv4) == nil {
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
