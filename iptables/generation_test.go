package iptables

import (
	"testing"
)

// A number that nobody has to read the rules for.
func TestGenerations(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		now := func() (g Generation) {
			t.Helper()
			var err error
			l.Do(func() {
				g, err = l.table.Generation()
			})
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		l.sync(v.rules(Redirect{Name: "web", Protocol: TCP, Addr: v.vip(1), Port: 80, To: 11000}))
		before := now()
		if again := now(); again != before {
			t.Errorf("nobody has changed anything: %v, then %v", before, again)
		}
		for _, change := range [][]string{
			{"-t", "nat", "-F", redirectBranch.services},
			{"-t", "nat", "-D", "PREROUTING", "-j", preroutingChain},
			{"-t", "filter", "-A", "INPUT", "-p", "tcp", "-j", "ACCEPT"},
		} {
			l.iptables(change...)
			after := now()
			if after == before {
				t.Errorf("after iptables %v it is still %v", change, after)
			}
			before = after
		}
	})
}
