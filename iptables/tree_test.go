package iptables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// packet is what a client sends first.
type packet struct {
	protocol Protocol
	to       netip.AddrPort
}

// ruleset are chains as the kernel would go through them.
type ruleset map[string][]string

func rulesetOf(sections []section) ruleset {
	all := ruleset{}
	for _, s := range sections {
		for _, c := range s.chains {
			all[c.name] = c.rules
		}
	}
	return all
}

// verdict sends a packet through a chain, as far as that looks at destinations
// only, and returns the last rule that it matched, empty if it came back, how many
// rules it has passed, and how many chains it was in at most.
func (s ruleset) verdict(t *testing.T, name string, p packet) (rule string, passed, depth int) {
	t.Helper()
	rules, ok := s[name]
	if !ok {
		t.Fatalf("a rule leads to chain %s, which does not exist", name)
	}
	for _, rule := range rules {
		passed++
		if !matches(t, rule, p) {
			continue
		}
		next := leadsTo(rule)
		if !owned(next) {
			return rule, passed, 1
		}
		inside, n, d := s.verdict(t, next, p)
		passed, depth = passed+n, max(depth, d)
		if inside != "" || strings.Contains(rule, "-g ") {
			return inside, passed, depth + 1
		}
	}
	return "", passed, depth + 1
}

func matches(t *testing.T, rule string, p packet) bool {
	for flag, value := range flags(rule) {
		switch flag {
		case "-d":
			if !netip.MustParsePrefix(value).Contains(p.to.Addr()) {
				return false
			}
		case "-p":
			if value != string(p.protocol) {
				return false
			}
		case "--dport":
			var b block
			if n, _ := fmt.Sscanf(value, "%d:%d", &b.first, &b.last); n == 1 {
				b.last = b.first
			}
			if p.to.Port() < b.first || p.to.Port() > b.last {
				return false
			}
		case "-m", "-j", "-g", "--to-ports", "--to-destination", "--comment", "--ctstate", "--reject-with":
		default:
			t.Fatalf("%q is not looked at: %s", flag, rule)
		}
	}
	return true
}

// populations are addresses that clusters may have.
var populations = map[string]func(r *rand.Rand, n int) []Redirect{
	"consecutive": func(_ *rand.Rand, n int) []Redirect {
		return variant{IPv4, ""}.manyServices(n)
	},
	"consecutive, IPv6": func(_ *rand.Rand, n int) []Redirect {
		return variant{IPv6, ""}.manyServices(n)
	},
	"random in a /12 with load balancers": func(r *rand.Rand, n int) (all []Redirect) {
		for i := range n {
			addr := netip.AddrFrom4([4]byte{10, 96 + byte(r.IntN(16)), byte(r.IntN(256)), byte(r.IntN(256))})
			if i%100 == 0 {
				addr = netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 100)})
			}
			all = append(all, Redirect{Name: fmt.Sprint(i), Protocol: TCP, Addr: addr, Port: 80, To: uint16(11000 + i)})
		}
		return all
	},
	"random in an IPv6 /108": func(r *rand.Rand, n int) (all []Redirect) {
		for i := range n {
			addr := netip.MustParseAddr("fd00:10:96::").As16()
			addr[13], addr[14], addr[15] = byte(r.IntN(16)), byte(r.IntN(256)), byte(r.IntN(256))
			all = append(all, Redirect{Name: fmt.Sprint(i), Protocol: TCP, Addr: netip.AddrFrom16(addr), Port: 443, To: uint16(11000 + i)})
		}
		return all
	},
	"one address for all": func(_ *rand.Rand, n int) (all []Redirect) {
		for i := range n {
			all = append(all, Redirect{Name: fmt.Sprint(i), Protocol: []Protocol{TCP, UDP}[i%2], Addr: netip.MustParseAddr("203.0.113.7"), Port: uint16(1 + i), To: uint16(11000 + i)})
		}
		return all
	},
	"NodePorts of both protocols": func(_ *rand.Rand, n int) (all []Redirect) {
		for i := range min(n, 2*2768) {
			all = append(all, Redirect{Name: fmt.Sprint(i), Protocol: []Protocol{TCP, UDP}[i%2], Port: uint16(30000 + i/2), To: uint16(11000 + i)})
		}
		return all
	},
	"each splits off one": func(_ *rand.Rand, n int) (all []Redirect) { // as deep as it can be
		for bit := range 32 {
			addr := [4]byte{}
			addr[bit/8] = 0x80 >> (bit % 8)
			for port := range 1 + n/320 {
				all = append(all, Redirect{Name: fmt.Sprint(bit), Protocol: TCP, Addr: netip.AddrFrom4(addr), Port: uint16(1 + port), To: uint16(11000 + bit)})
			}
		}
		return all
	},
}

// A packet finds the rule that it found in one long chain, and passes few others.
func TestTreeFindsTheSame(t *testing.T) {
	for name, population := range populations {
		for _, n := range []int{fullChain, fullChain + 1, 10_000} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				redirects := population(random, n)
				r := Rules{Redirects: redirects, NodeAddr: netip.MustParseAddr("192.0.2.1")}
				f := IPv4
				if strings.Contains(name, "IPv6") {
					f, r.NodeAddr = IPv6, netip.MustParseAddr("2001:db8::1")
				}
				chains := rulesetOf(layout(f, r))
				for _, b := range []branch{redirectBranch, dnatBranch} {
					expectTree(t, chains, b, redirects)
				}
				for name := range chains {
					if len(name) > maxName {
						t.Errorf("the name %s is too long", name)
					}
				}
				nobodys := packet{TCP, netip.AddrPortFrom(redirects[n/2%len(redirects)].Addr, 65535)}
				for _, chain := range []string{redirectBranch.services, redirectBranch.nodePorts} {
					if rule, _, _ := chains.verdict(t, chain, nobodys); rule != "" {
						t.Errorf("%v, which is nobody's, goes to %s", nobodys, rule)
					}
				}
			})
		}
	}
}

func (d Redirect) packet() packet { return packet{d.Protocol, netip.AddrPortFrom(d.Addr, d.Port)} }

func expectTree(t *testing.T, chains ruleset, b branch, redirects []Redirect) {
	t.Helper()
	expected := map[packet]Redirect{}
	for _, d := range slices.Backward(slices.SortedFunc(slices.Values(redirects), compare)) {
		expected[d.packet()] = d
	}
	most, deepest, tried := 0, 0, 0
	for p, d := range expected {
		if tried++; tried > 500 {
			break
		}
		chain := b.services
		if !d.Addr.IsValid() {
			chain = b.nodePorts
		}
		rule, passed, depth := chains.verdict(t, chain, p)
		if !strings.Contains(rule+" ", "--comment "+quoted(comment(d.Name))+" ") {
			t.Fatalf("%v goes to %q, want that of %s", p, rule, d.Name)
		}
		most, deepest = max(most, passed), max(deepest, depth)
	}
	// Four jumps at most on each level of the tree, and one full chain.
	if limit := 4*maxDepth + fullChain; most > limit && deepest < maxDepth {
		t.Errorf("%d rules are passed", most)
	}
	if deepest > maxDepth {
		t.Errorf("the tree is %d deep", deepest)
	}
	t.Logf("%s: at most %d rules in %d chains", b.services, most, deepest)
}

// A set has one tree, however it came about; and a Service more or less changes
// few chains.
func TestTreeChangesLittle(t *testing.T) {
	for name, population := range populations {
		t.Run(name, func(t *testing.T) {
			if name == "each splits off one" {
				t.Skip("leaves that cannot be split are as long as they are")
			}
			random := rand.New(rand.NewPCG(3, 4))
			redirects := population(random, 2000)
			f := IPv4
			if redirects[len(redirects)-1].Addr.Is6() {
				f = IPv6
			}
			kept := &renderer{}
			var before []section
			for i := range 30 {
				at := random.IntN(len(redirects))
				some := slices.Delete(slices.Clone(redirects), at, at+1)
				after := kept.layout(f, Rules{Redirects: some})
				if text(after) != render(f, Rules{Redirects: shuffle(some)}) {
					t.Fatal("the tree depends on what was rendered before")
				}
				if i > 0 {
					expectFewChanges(t, changes(before, after))
				}
				before = after
			}
		})
	}
}

func expectFewChanges(t *testing.T, input string) {
	t.Helper()
	if n := strings.Count(input, "\n-A "); n > 6*fullChain {
		t.Fatalf("one Service more and one less change %d rules", n)
	}
}

// What was rendered for other pods or another address of the node is not used.
func TestRendererForgets(t *testing.T) {
	kept := &renderer{}
	r := Rules{Redirects: pair(netip.Addr{}, 30080)}
	for _, change := range []func(){
		func() {},
		func() { r.NodeAddr = netip.MustParseAddr("192.0.2.1") },
		func() { r.NodeAddr = netip.MustParseAddr("192.0.2.2") },
		func() { r.Pods.Prefixes = prefixes("10.244.1.0/24") },
		func() { r.Pods.Interfaces = []string{"cali+"} },
	} {
		change()
		if got, want := text(kept.layout(IPv4, r)), render(IPv4, r); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestTreeAsText(t *testing.T) {
	var redirects []Redirect
	for i := range byte(40) {
		d := Redirect{Name: "shop/web:http", Protocol: TCP, Addr: netip.AddrFrom4([4]byte{10, 96, 0, 10 + i}), Port: 80, To: 11000 + 2*uint16(i)}
		redirects = append(redirects, d, Redirect{Name: d.Name, Protocol: TCP, Port: 30070 + uint16(i), To: d.To})
	}
	text := Rules{Redirects: redirects}.Text(IPv4)
	const want = `
-A PREROUTING -j USHER-PREROUTING
-A OUTPUT -j USHER-OUTPUT
-A INPUT -j USHER-INPUT
-A USHER-SERVICES -d 10.96.0.0/28 -g USHER-10.96.0.0/28
-A USHER-SERVICES -d 10.96.0.16/28 -g USHER-10.96.0.16/28
-A USHER-SERVICES -d 10.96.0.32/28 -g USHER-10.96.0.32/28
-A USHER-SERVICES -d 10.96.0.48/28 -g USHER-10.96.0.48/28
-A USHER-10.96.0.48/28 -d 10.96.0.48/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11076
-A USHER-NODEPORTS -p tcp -m tcp --dport 30016:30079 -g USHER-TCP-30016-30079
-A USHER-TCP-30016-30079 -p tcp -m tcp --dport 30070 -m comment --comment "shop/web:http" -j REDIRECT --to-ports 11000
-A USHER-INPUT -p tcp -m tcp --dport 11008:11263 -j USHER-INPUT-TCP-11008-11263
-A USHER-INPUT-TCP-11008-11071 -p tcp -m tcp --dport 11010 -m conntrack --ctstate DNAT -j ACCEPT
`
	for line := range strings.Lines(want[1:]) {
		if !strings.Contains(text, line) {
			t.Errorf("want %s in it", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Every listener port is guarded, and no other one.
func TestEveryListenerPortIsGuarded(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	used := map[Protocol]map[uint16]bool{TCP: {}, UDP: {}}
	var redirects []Redirect
	for i := range 6000 {
		d := Redirect{Protocol: []Protocol{TCP, UDP}[i%2], Port: 80, To: uint16(1 + random.IntN(1<<15))}
		used[d.Protocol][d.To] = true
		redirects = append(redirects, d)
	}
	chains := rulesetOf([]section{{chains: inputChains(Rules{Redirects: redirects})}})
	most := 0
	for protocol, ports := range used {
		for range 1000 {
			port := uint16(random.IntN(1 << 16))
			rule, passed, _ := chains.verdict(t, inputChain, packet{protocol, netip.AddrPortFrom(netip.Addr{}, port)})
			if guarded := strings.Contains(rule, "ACCEPT"); guarded != ports[port] {
				t.Fatalf("port %d of %s: %q", port, protocol, rule)
			}
			most = max(most, passed)
		}
	}
	if most > 2*fullChain+40 {
		t.Errorf("%d rules are passed", most)
	}
}

func TestChainNamesTellWhatIsInside(t *testing.T) {
	for want, c := range map[string]cell{
		"10.96.16.0/22":    {Redirect{Addr: netip.MustParseAddr("10.96.18.3")}, 96 + 22},
		"TCP":              {Redirect{Protocol: TCP, Port: 30080}, keyBits - 16},
		"UDP-30080-30083":  {Redirect{Protocol: UDP, Port: 30081}, keyBits - 2},
		"fd00--/16":        {Redirect{Addr: netip.MustParseAddr("fd00:10:96::7")}, 16},
		"fd00-10-96--/120": {Redirect{Addr: netip.MustParseAddr("fd00:10:96::7")}, 120},
		"00001c1d8c964c79": {Redirect{Addr: netip.MustParseAddr("2001:db8:10:96::7")}, 120},
	} {
		if got := c.name(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
