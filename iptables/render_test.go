package iptables

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			if got := render(l.family, l.rules); got != l.want[1:] {
				t.Errorf("got:\n%s\nwant:%s", got, l.want)
			}
		})
	}
}

func TestRenderDoesNotDependOnOrder(t *testing.T) {
	for _, l := range layouts {
		redirects, numbered := slices.Clone(l.rules.Redirects), slices.Clone(l.rules.Numbered)
		for range 20 {
			shuffle(redirects)
			shuffle(numbered)
			shuffled := l.rules
			shuffled.Redirects, shuffled.Numbered = redirects, numbered
			before := slices.Clone(redirects)
			if render(l.family, shuffled) != l.want[1:] {
				t.Fatalf("%s: %v give another text than in their order", l.name, redirects)
			}
			if !slices.Equal(redirects, before) {
				t.Fatalf("%s: render changed the order of its argument", l.name)
			}
		}
	}
}

func shuffle[T any](s []T) { rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] }) }

func TestBlocksLeaveOtherPortsAlone(t *testing.T) {
	var redirects []Redirect
	for _, to := range []uint16{65535, 11002, 11000, 11001, 11002, 11004, 11007, 11006} {
		redirects = append(redirects, Redirect{Protocol: TCP, To: to})
	}
	redirects = append(redirects, Redirect{Protocol: UDP, To: 11003})
	var got []string
	for _, b := range blocks(redirects, TCP) {
		got = append(got, b.String())
	}
	if want := "11000:11002 11004 11006:11007 65535"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestInvalidRulesAreRefused(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:10:96::1")
	good := Redirect{Name: "shop/web", Protocol: TCP, Addr: v4, Port: 80, To: 11000}
	with := func(change func(*Redirect)) Rules {
		bad := good
		change(&bad)
		return Rules{Redirects: []Redirect{good, bad}}
	}
	for name, c := range map[string]struct {
		rules Rules
		want  string
	}{
		"protocol":     {with(func(d *Redirect) { d.Protocol = "tcp -j ACCEPT" }), `"tcp -j ACCEPT" is neither`},
		"SCTP":         {with(func(d *Redirect) { d.Protocol = "sctp" }), "neither tcp nor udp"},
		"family":       {with(func(d *Redirect) { d.Addr = v6 }), "address fd00:10:96::1 is not IPv4"},
		"mapped":       {with(func(d *Redirect) { d.Addr = netip.MustParseAddr("::ffff:10.96.0.1") }), "is not IPv4"},
		"port":         {with(func(d *Redirect) { d.Port = 0 }), `redirect "shop/web": the frontend has no port`},
		"listener":     {with(func(d *Redirect) { d.To = 0 }), "the listener has no port"},
		"node address": {Rules{NodeAddr: v6}, "node address fd00:10:96::1 is not IPv4"},
		"mark":         {Rules{Mark: Mark{Value: 3, Mask: 1}}, "outside its mask"},
	} {
		err := c.rules.validate(IPv4)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	zoned := Rules{NodeAddr: netip.MustParseAddr(`fe80::1%eth0" -j ACCEPT`)}
	if zoned.validate(IPv6) == nil {
		t.Error("an address with a zone is accepted")
	}
}
