package iptables

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded are the rules that kube-proxy 1.36 wrote in mode iptables, for the Service
// of the API server and a LoadBalancer with a NodePort and an endpoint.
func (v variant) recorded(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("testdata/kubeproxy%d.rules", v.family))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ofIPVS are the chains of mode ipvs, which compares with ipsets.
const ofIPVS = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
COMMIT
`

// ofOthers are rules of the kubelet, and of people whose rules look like kube-proxy's.
const ofOthers = `*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-FW-MINE - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -m comment --comment "kubernetes service portals" -j KUBE-ROUTER-INPUT
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "it's a \"KUBE-SERVICES\" -j test" -j ACCEPT
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FW-MINE -j RETURN
COMMIT
*nat
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-SVC-MINE - [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j KUBE-SVC-MINE
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
-A KUBE-SVC-MINE -j RETURN
COMMIT
`

// restoreText adds rules to those of the node.
func (l *lab) restoreText(rules string) {
	l.t.Helper()
	file := filepath.Join(l.t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.Run(l.command()+"-restore", "--noflush", file)
}

// backend is that of the lab, as it is found.
func (l *lab) backend() (found Backend) {
	l.t.Helper()
	for _, b := range Backends(l.t.Context()) {
		if name := map[string]string{"nft": backendNFT, "legacy": backendLegacy}[l.variant.backend]; b.Family == l.family && b.Name == name {
			return b
		}
	}
	l.t.Fatalf("%s is not found", l.command())
	return found
}

func (l *lab) kubeProxy() (k KubeProxy, found bool) {
	l.t.Helper()
	var err error
	b := l.backend()
	l.Do(func() { k, found, err = b.KubeProxy(context.Background()) })
	if err != nil {
		l.t.Fatal(err)
	}
	return k, found
}

func (l *lab) removeKubeProxy(k KubeProxy) {
	l.t.Helper()
	var err error
	l.Do(func() { err = k.Remove(context.Background()) })
	if err != nil {
		l.t.Fatal(err)
	}
}

// given rules of others, when kube-proxy has come and gone, then its rules are found
// and removed, and those of the others are as before to the letter.
func TestKubeProxyIsFoundAndRemoved(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		for mode, rules := range map[string]string{"iptables": v.recorded(t), "ipvs": ofIPVS, "both": v.recorded(t) + ofIPVS} {
			l := newLab(t, v)
			l.restoreText("*mangle\nCOMMIT\n*filter\nCOMMIT\n*nat\nCOMMIT\n" + ofOthers)
			if k, found := l.kubeProxy(); found || k.Captures {
				t.Fatalf("%s: rules of others are taken for kube-proxy's: %+v", mode, k)
			}
			before := l.saved()
			l.restoreText(rules)
			k, found := l.kubeProxy()
			if !found || !k.Captures || len(k.Kept) > 0 {
				t.Errorf("%s: found %v, captures %v, keeps %v", mode, found, k.Captures, k.Kept)
			}
			if want := strings.Count(rules, "\n:KUBE-"); mode != "both" && k.Chains != want {
				t.Errorf("%s: %d chains, want %d", mode, k.Chains, want)
			}
			l.removeKubeProxy(k)
			if after := l.saved(); after != before {
				t.Errorf("%s: before:\n%s\nafter:\n%s", mode, before, after)
			}
			if _, found := l.kubeProxy(); found {
				t.Errorf("%s: still found", mode)
			}
		}
	})
}

// given rules of others that lead to a chain of kube-proxy, then it stays, with what
// it leads to, and the others' rules still work.
func TestKubeProxyChainsThatOthersUseStay(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.restoreText(v.recorded(t))
		const theirs = "-A PREROUTING -i cni0 -j KUBE-NODEPORTS"
		l.iptables("-t", "nat", "-A", "PREROUTING", "-i", "cni0", "-j", "KUBE-NODEPORTS")
		k, _ := l.kubeProxy()
		l.removeKubeProxy(k)
		if got := k.Kept["nat KUBE-NODEPORTS"]; got != theirs {
			t.Errorf("KUBE-NODEPORTS is kept because of %q, want %q", got, theirs)
		}
		saved := l.saved()
		for _, want := range []string{theirs, ":KUBE-NODEPORTS -"} {
			if !strings.Contains(saved, want) {
				t.Errorf("%q is gone:\n%s", want, saved)
			}
		}
		if v.family == IPv4 { // its NodePort leads on
			for _, want := range []string{"nat KUBE-EXT-CDGGSHYLG3RE2FKL", "nat KUBE-SVC-CDGGSHYLG3RE2FKL", "nat KUBE-SEP-2RIJ5GIYXEFH6G4D", "nat KUBE-MARK-MASQ"} {
				if k.Kept[want] == "" {
					t.Errorf("%s is not kept: %v", want, k.Kept)
				}
			}
		}
		for _, gone := range []string{"KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-FORWARD", "KUBE-SEP-GDT7UD7DCGSKYHSM", "PROXY-CANARY"} {
			if strings.Contains(saved, gone) {
				t.Errorf("%s is still there:\n%s", gone, saved)
			}
		}
	})
}

// What is in nobody's way is told from what takes connections.
func TestKubeProxyThatCapturesNothing(t *testing.T) {
	recorded := variant{family: IPv4}.recorded(t)
	for name, c := range map[string]struct {
		saved    string
		chains   int
		captures bool
	}{
		"nothing":         {"", 0, false},
		"others":          {ofOthers, 0, false},
		"recorded":        {recorded, strings.Count(recorded, "\n:KUBE-"), true},
		"without jumps":   {strings.ReplaceAll(strings.ReplaceAll(recorded, "-A PREROUTING ", "-A X "), "-A OUTPUT ", "-A X "), strings.Count(recorded, "\n:KUBE-"), false},
		"empty chain":     {"*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n", 1, false},
		"only from here":  {"*nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n-A KUBE-SERVICES -j KUBE-X\nCOMMIT\n", 1, true},
		"a jump by hand":  {"*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -j KUBE-X\nCOMMIT\n", 1, true},
		"in filter only":  {"*filter\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n-A KUBE-SERVICES -j REJECT\nCOMMIT\n", 1, false},
		"without a table": {":KUBE-SERVICES - [0:0]\n-A OUTPUT -j KUBE-SERVICES\n-A\n*\n:\n", 0, false},
	} {
		if k := kubeProxyIn(c.saved); k.Chains != c.chains || k.Captures != c.captures {
			t.Errorf("%s: %d chains, captures %v, want %d, %v", name, k.Chains, k.Captures, c.chains, c.captures)
		}
	}
}

// given a machine with both backends, then each is found once, the default first.
func TestBackends(t *testing.T) {
	seen := map[string]int{}
	for i, b := range Backends(t.Context()) {
		seen[b.Family.String()+b.Name]++
		if i == 0 && !b.Default {
			t.Errorf("%v comes first and is not the default", b)
		}
		if b.Version == "" || strings.ContainsAny(b.Version, "v ") {
			t.Errorf("%v has version %q", b, b.Version)
		}
	}
	eachVariant(t, func(t *testing.T, v variant) {
		if name := map[string]string{"nft": backendNFT, "legacy": backendLegacy}[v.backend]; seen[v.family.String()+name] != 1 {
			t.Errorf("%v %s is found %d times", v.family, name, seen[v.family.String()+name])
		}
	})
	t.Setenv("PATH", t.TempDir())
	if found := Backends(t.Context()); len(found) > 0 {
		t.Errorf("without programs there is %v", found)
	}
}
