package handover

import (
	"syscall"

	"github.com/usher-proxy/usher/test/usher"
)

// A carrier brings all that one usher serves to the next one.
type carrier interface {
	// flags are what usher needs for that.
	flags(*site) []string
	// upgrade returns when the next usher serves. It may be the same process.
	upgrade(*site, *usher.Process) *usher.Process
}

// byCommand is usher upgrade, which executes the program in place.
type byCommand struct{}

func (byCommand) flags(*site) []string { return nil }

func (byCommand) upgrade(s *site, u *usher.Process) *usher.Process {
	s.t.Helper()
	s.ask(0, "upgrade")
	return u
}

// byHangup is SIGHUP, which nobody answers.
type byHangup struct{}

func (byHangup) flags(*site) []string { return nil }

func (byHangup) upgrade(s *site, u *usher.Process) *usher.Process {
	s.t.Helper()
	next := s.status().Upgrades + 1
	u.Signal(syscall.SIGHUP)
	s.awaitUpgrades(next)
	return u
}
