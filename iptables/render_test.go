package iptables

import (
	"fmt"
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
		for range 20 {
			r := shuffled(l.rules)
			before := fmt.Sprint(r)
			if got := render(l.family, r); got != l.want[1:] {
				t.Fatalf("%s: %+v give another text than in their order:\n%s", l.name, r, got)
			}
			if after := fmt.Sprint(r); after != before {
				t.Fatalf("%s: render changed its argument %s to %s", l.name, before, after)
			}
		}
	}
}

// shuffled returns the rules with every list in another order and something in
// it twice.
func shuffled(r Rules) Rules {
	r.Redirects = shuffle(r.Redirects)
	for i := range r.Redirects {
		r.Redirects[i].Sources = shuffle(r.Redirects[i].Sources)
	}
	r.Numbered = shuffle(r.Numbered)
	r.Pods = Pods{shuffle(r.Pods.Prefixes), shuffle(r.Pods.Interfaces)}
	r.NodePortsOn = shuffle(r.NodePortsOn)
	r.Open = shuffle(r.Open)
	return r
}

func shuffle[T any](s []T) []T {
	if len(s) > 0 {
		s = append(slices.Clone(s), s[0])
	}
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

func TestBlocksLeaveOtherPortsAlone(t *testing.T) {
	var redirects []Redirect
	for _, to := range []uint16{65535, 11002, 11000, 11001, 11002, 11004, 11007, 11006} {
		redirects = append(redirects, Redirect{Protocol: TCP, To: to})
	}
	redirects = append(redirects, Redirect{Protocol: UDP, To: 11003})
	var got []string
	for _, b := range blocks(listenerPorts(redirects, TCP)) {
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
		"return mark":  {Rules{Returning: Mark{Value: 2, Mask: 1}}, "returning packets 0x2 has bits outside its mask"},
		"no mark":      {Rules{Returning: Mark{Mask: 1}}, "marks nothing"},
		"source":       {with(func(d *Redirect) { d.Sources = prefixes("fd00::/8") }), "fd00::/8: not IPv4"},
		"source bits":  {with(func(d *Redirect) { d.Sources = prefixes("10.0.0.1/8") }), `redirect "shop/web": sources are in 10.0.0.1/8`},
		"no source":    {with(func(d *Redirect) { d.Sources = []netip.Prefix{{}} }), "sources are in invalid Prefix"},
		"pod prefix":   {Rules{Pods: Pods{Prefixes: prefixes("::ffff:10.0.0.0/104")}}, "pods are in ::ffff:10.0.0.0/104"},
		"no interface": {Rules{Pods: Pods{Interfaces: []string{""}}}, `interface ""`},
		"all of them":  {Rules{Pods: Pods{Interfaces: []string{"+"}}}, `interface "+"`},
		"two pluses":   {Rules{Pods: Pods{Interfaces: []string{"cali++"}}}, `interface "cali++"`},
		"hostile":      {Rules{Pods: Pods{Interfaces: []string{"a\nCOMMIT"}}}, `interface "a\nCOMMIT"`},
		"long":         {Rules{Pods: Pods{Interfaces: []string{"sixteen-letters+"}}}, `interface "sixteen-letters+"`},
		"NodePorts on": {Rules{NodePortsOn: prefixes("192.0.2.1/24")}, "NodePorts are on 192.0.2.1/24"},
		"open":         {Rules{Open: []uint16{80, 0}}, "an open port is 0"},
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

func TestIntersect(t *testing.T) {
	for _, c := range []struct{ a, b, want []netip.Prefix }{
		{prefixes("10.0.0.0/8"), prefixes("10.1.0.0/16"), prefixes("10.1.0.0/16")},
		{prefixes("10.1.0.0/16"), prefixes("10.0.0.0/8"), prefixes("10.1.0.0/16")},
		{prefixes("10.1.0.0/16"), prefixes("10.1.0.0/16"), prefixes("10.1.0.0/16")},
		{prefixes("10.1.0.0/16"), prefixes("10.2.0.0/16"), nil},
		{prefixes("0.0.0.0/0"), prefixes("10.2.0.0/16", "9.0.0.0/8"), prefixes("9.0.0.0/8", "10.2.0.0/16")},
		{prefixes("10.1.0.0/24", "10.0.0.0/8"), prefixes("10.1.0.0/16"), prefixes("10.1.0.0/16")},
		{prefixes("0.0.0.0/0"), prefixes("fd00::/8"), nil},
		{nil, prefixes("10.2.0.0/16"), nil},
	} {
		if got := intersect(c.a, c.b); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v have %v in common, want %v", c.a, c.b, got, c.want)
		}
	}
}

// A prefix of no bits is everybody, but still asked before redirects without
// Sources.
func TestSourcesMayBeEverybody(t *testing.T) {
	r := Rules{Redirects: []Redirect{
		{Name: "a", Protocol: TCP, Port: 1, To: 1},
		{Name: "b", Protocol: TCP, Port: 1, To: 2, Sources: prefixes("::/0", "fd00::/8")},
	}}
	const want = `
-A USHER-NODEPORTS -p tcp -m tcp --dport 1 -m comment --comment b -j REDIRECT --to-ports 2
-A USHER-NODEPORTS -p tcp -m tcp --dport 1 -m comment --comment a -j REDIRECT --to-ports 1
`
	if got := render(IPv6, r); !strings.Contains(got, want) {
		t.Errorf("got:\n%s\nwant in it:%s", got, want)
	}
}
