package iptables

import (
	"context"
	"testing"
)

// Our own writes are not somebody else's, for the Tables of both families.
func TestWhoHasChangedRules(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		other := &lab{Node: l.Node, variant: variant{IPv4 + IPv6 - v.family, v.backend}, t: t}
		other.table = other.open(osExec{})
		w := NewWitness(l.table, other.table)
		changed := func() (changed bool) {
			t.Helper()
			l.Do(func() {
				var certain bool
				var err error
				if changed, certain, err = w.Changed(); err != nil || certain != (v.backend == "nft") {
					t.Errorf("certain: %v, %v", certain, err)
				}
			})
			return changed
		}
		web := Redirect{Name: "web", Protocol: TCP, Addr: v.vip(1), Port: 80, To: 11000}
		more := Redirect{Name: "more", Protocol: TCP, Addr: v.vip(2), Port: 80, To: 11001}
		if !changed() {
			t.Error("it knows what was before it")
		}
		l.sync(v.rules(web))
		for range 2 {
			if changed() {
				t.Error("our own write is somebody else's")
			}
		}
		l.sync(v.rules(web, more))
		l.sync(v.rules(web))
		l.sync(v.rules(web)) // nothing
		other.sync(other.rules())
		if changed() {
			t.Error("our own writes are somebody else's")
		}
		l.Do(func() {
			if _, err := l.table.Verify(context.Background(), v.rules(web)); err != nil {
				t.Error(err)
			}
			if _, err := l.table.Diff(context.Background(), v.rules(web)); err != nil {
				t.Error(err)
			}
		})
		if changed() {
			t.Error("to look is a change")
		}
		l.iptables("-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "1", "-j", "ACCEPT")
		l.sync(v.rules(web))
		if !changed() {
			t.Error("a foreign rule is not seen")
		}
		l.iptables("-t", "nat", "-D", "OUTPUT", "-p", "tcp", "--dport", "1", "-j", "ACCEPT")
		if v.backend == "nft" { // a write of ours hides none
			l.sync(v.rules(web, more))
		}
		if !changed() {
			t.Error("that a foreign rule goes is not seen")
		}
	})
}
