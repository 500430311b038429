package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

func eachBackend(t *testing.T, test func(t *testing.T)) {
	for _, b := range []string{"nft", "legacy"} {
		t.Run(b, func(t *testing.T) {
			netns.UseIPTables(t, b)
			test(t)
		})
	}
}

// Somebody else changes rules, as a firewall does that is started anew. Services
// come back by themselves, and what belongs to others stays.
func TestRulesThatSomebodyElseChanges(t *testing.T) {
	eachBackend(t, func(t *testing.T) {
		s := newScene(t)
		s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
		u := s.start("--sync-period=10m")
		served(t, s.client.NS, vip(10))
		wanted := s.ourRules()
		for _, damage := range []struct {
			about string
			do    []string
		}{
			{"the nat table is flushed", []string{"iptables -t nat -F"}},
			{"all tables are flushed and their chains deleted", []string{"iptables -t nat -F", "iptables -t nat -X", "iptables -F", "iptables -X"}},
			{"our jump is removed", []string{"iptables -t nat -D PREROUTING -j USHER-PREROUTING"}},
			{"our jump is removed in the filter table", []string{"iptables -D INPUT -j USHER-INPUT"}},
			{"a rule comes before our jump", []string{"iptables -t nat -I PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 98"}},
			{"a rule of ours is removed", []string{"iptables -t nat -D USHER-SERVICES 1"}},
			{"a rule is put into a chain of ours", []string{"iptables -t nat -I USHER-SERVICES -p tcp --dport 80 -j RETURN"}},
		} {
			for _, command := range damage.do {
				s.Run("sh", "-c", command)
			}
			begun := time.Now()
			foreign := s.foreignRules()
			netns.Eventually(t, "the rules are as they were after "+damage.about, func() error {
				if now := s.ourRules(); now != wanted {
					return fmt.Errorf("they are\n%s\nand were\n%s", now, wanted)
				}
				return nil
			})
			t.Logf("%s: repaired within %s", damage.about, time.Since(begun).Round(10*time.Millisecond))
			if now := s.foreignRules(); now != foreign {
				t.Errorf("after %s the rules of others are\n%s\nand were\n%s", damage.about, now, foreign)
			}
			served(t, s.client.NS, vip(10))
		}
		u.WaitLog("somebody else has changed usher's rules")
	})
}

// ourRules are those of usher, and which of them come first in their chain.
func (s *scene) ourRules() string {
	var list []string
	first := map[string]bool{}
	for line := range strings.Lines(s.Run("sh", "-c", "iptables-save -t filter; iptables-save -t nat")) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "-A" {
			continue
		}
		if strings.Contains(line, "USHER-") {
			if !first[words[1]] && !strings.HasPrefix(words[1], "USHER-") {
				line = "first: " + line
			}
			list = append(list, line)
		}
		first[words[1]] = true
	}
	return strings.Join(list, "")
}

func (s *scene) foreignRules() string {
	var list []string
	for line := range strings.Lines(s.Run("sh", "-c", "iptables-save -t filter; iptables-save -t nat")) {
		if strings.HasPrefix(line, "-A") && !strings.Contains(line, "USHER-") {
			list = append(list, line)
		}
	}
	return strings.Join(list, "")
}
