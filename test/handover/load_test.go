package handover

import (
	"syscall"
	"testing"

	"github.com/usher-proxy/usher/test/load"
)

// Whoever talks through usher sees nothing of an upgrade in place, whoever asks for it.
func TestUpgradeUnderLoad(t *testing.T) {
	for _, c := range []struct {
		name, capture string
		ask           func(*site)
	}{
		{"exec/iptables", "iptables", (*site).upgrade},
		{"exec/bind", "bind", (*site).hangUp},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			load.UnderLoad(s.Site, c.name, &inPlace{site: s, capture: c.capture, ask: c.ask})
		})
	}
}

// upgrade is usher upgrade.
func (s *site) upgrade() {
	s.t.Helper()
	s.Ask(0, "upgrade")
}

// hangUp is SIGHUP, which nobody answers.
func (s *site) hangUp() {
	s.t.Helper()
	next := s.Status().Upgrades + 1
	s.usher.Signal(syscall.SIGHUP)
	s.AwaitUpgrades(next)
}

// inPlace is the carrier that executes the program in the same process.
type inPlace struct {
	*site
	capture string
	ask     func(*site)
}

func (c *inPlace) Start()      { c.start("--capture=" + c.capture) }
func (c *inPlace) Upgrade()    { c.ask(c.site) }
func (c *inPlace) Log() string { return c.usher.Log() }
func (c *inPlace) Stop()       { c.ends() }
