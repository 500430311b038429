package iptables

import (
	"net/netip"
	"strings"
	"testing"
)

// hostile are names that an API could hand us.
var hostile = []string{
	`a"b`, `a'b`, `a\`, `\"`, "a\nCOMMIT\n*filter\n-F", "a\r\n-P INPUT DROP", "\x00", "-j", "--dport", "! -d 0.0.0.0/0",
	`x" -j ACCEPT -m comment --comment "`, "$(reboot)", "`reboot`", "ns/näme", "\xff\xfe", " ", "#", "-t", "--table=filter",
	strings.Repeat("n", 300), strings.Repeat("ü", 200), strings.Repeat(`"`, 255) + "\n",
}

func TestHostileNamesStayComments(t *testing.T) {
	for _, name := range hostile {
		expectOneRule(t, name, "eth0")
	}
}

func FuzzNames(f *testing.F) {
	for _, name := range hostile {
		f.Add(name, name)
	}
	f.Fuzz(func(t *testing.T, name, link string) { expectOneRule(t, name, link) })
}

// expectOneRule compares the rules of a hostile name with those of a good one:
// they may differ in the words of comment and interface only.
func expectOneRule(t *testing.T, name, link string) {
	t.Helper()
	rules := func(name, link string) Rules {
		return Rules{
			Redirects: []Redirect{{Name: name, Protocol: TCP, Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, To: 11000}},
			Numbered:  []string{link},
			NodeAddr:  netip.MustParseAddr("192.0.2.1"),
		}
	}
	want := render(IPv4, rules("@NAME@", "@LINK@"))
	want = strings.ReplaceAll(want, quoted(comment("@NAME@")), quoted(comment(name)))
	if name == "" {
		want = strings.ReplaceAll(want, ` -m comment --comment ""`, "")
	}
	if matchable(link) {
		want = strings.ReplaceAll(want, "@LINK@", link)
	} else {
		want = strings.ReplaceAll(want, "-A USHER-PREROUTING -i @LINK@ -g USHER-REDIRECT\n", "")
	}
	if got := render(IPv4, rules(name, link)); got != want {
		t.Errorf("name %q and interface %q give:\n%s\nwant:\n%s", name, link, got, want)
	}
	if c := comment(name); len(c) > 255 || strings.ContainsAny(c, "\"'\\ \n\r\t\x00$`#") {
		t.Errorf("name %q gives the comment %q", name, c)
	}
	if matchable(link) && strings.ContainsAny(link, "\"'\\ \n\r\t\x00+!/") {
		t.Errorf("interface %q would be matched", link)
	}
	podLink := Pods{Interfaces: []string{link}}
	if podLink.validate(IPv4) == nil && !matchable(strings.TrimSuffix(link, "+")) {
		t.Errorf("interface %q of pods would be matched", link)
	}
}
