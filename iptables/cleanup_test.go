package iptables

import (
	"context"
	"strings"
	"testing"
)

// addForeign adds rules of others to the tables that we write to.
func (l *lab) addForeign() {
	l.t.Helper()
	l.iptables("-t", "nat", "-N", "KUBE-SERVICES")
	l.iptables("-t", "nat", "-A", "KUBE-SERVICES", "-d", l.vip(1).String(), "-m", "comment", "--comment", "it's a \"test\"", "-j", "RETURN")
	l.iptables("-t", "nat", "-A", "PREROUTING", "-j", "KUBE-SERVICES")
	l.iptables("-t", "nat", "-A", "OUTPUT", "-j", "KUBE-SERVICES")
	l.iptables("-t", "nat", "-A", "POSTROUTING", "-s", l.clientAddr().String(), "-j", "MASQUERADE")
	l.iptables("-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
	l.iptables("-N", "USHERS") // not ours
	l.iptables("-P", "FORWARD", "DROP")
}

func TestCleanupLeavesTheRulesOfOthers(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.addForeign()
		before := l.saved()
		for _, when := range []string{"before any Sync", "after a Sync", "twice"} {
			if when == "after a Sync" {
				l.sync(l.rules(l.web()...))
			}
			l.cleanup()
			if after := l.saved(); after != before {
				t.Errorf("%s, before:\n%s\nafter:\n%s", when, before, after)
			}
		}
		l.sync(l.rules(l.web()...)) // still works
		l.expectJumps(l.rules())
	})
}

// Any step may have been the last one of a process that was killed.
func TestCleanupAfterACrash(t *testing.T) {
	for name, crash := range map[string]func(l *lab){
		"before the jumps":  func(l *lab) { l.removeJump(0); l.removeJump(1); l.removeJump(2) },
		"between the jumps": func(l *lab) { l.removeJump(1) },
		"within a cleanup":  func(l *lab) { l.removeJump(1); l.iptables("-t", nat, "-F", "USHER-SERVICES") },
		"within New":        func(l *lab) { l.iptables("-t", nat, "-N", probeChain) },
		"of another version": func(l *lab) {
			l.iptables("-t", nat, "-N", "USHER-10.0.0.0-8")
			l.iptables("-t", nat, "-A", "USHER-SERVICES", "-j", "USHER-10.0.0.0-8")
		},
		"with a doubled jump":  func(l *lab) { l.iptables("-A", "INPUT", "-j", inputChain) },
		"with rules of others": func(l *lab) { l.iptables("-t", nat, "-A", "USHER-SERVICES", "-j", "KUBE-SERVICES") },
	} {
		t.Run(name, func(t *testing.T) {
			eachVariant(t, func(t *testing.T, v variant) {
				l := newLab(t, v)
				l.addForeign()
				before := l.saved()
				l.sync(l.rules(l.web()...))
				crash(l)
				l.table = l.open(osExec{})
				l.cleanup()
				if after := l.saved(); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		})
	}
}

func (l *lab) removeJump(i int) {
	l.t.Helper()
	l.iptables("-t", jumps[i].table, "-D", jumps[i].from, "-j", jumps[i].to)
}

func TestCleanupRemovesWhatItCan(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		l := newLab(t, v)
		l.sync(l.rules(l.web()...))
		l.iptables("-t", "nat", "-A", "PREROUTING", "-p", "udp", "-j", "USHER-SERVICES")
		var err error
		l.Do(func() { err = l.table.Cleanup(context.Background()) })
		if err == nil || !strings.Contains(err.Error(), "table nat") {
			t.Errorf("error %v does not tell that nat is not clean", err)
		}
		if got := l.saved(); strings.Contains(got, "-j USHER-PREROUTING") || strings.Contains(got, "USHER-INPUT") {
			t.Errorf("could have been removed:\n%s", got)
		}
		l.iptables("-t", "nat", "-D", "PREROUTING", "-p", "udp", "-j", "USHER-SERVICES")
		l.cleanup()
		if got := l.saved(); strings.Contains(got, "USHER") {
			t.Errorf("still there:\n%s", got)
		}
	})
}
