package handover

import (
	"fmt"
	"testing"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/usher"
)

// A site is one with an usher on it.
type site struct {
	*load.Site
	t     testing.TB
	usher *usher.Process
}

func newSite(t testing.TB) *site {
	t.Helper()
	return &site{Site: load.NewSite(t), t: t}
}

// start starts usher by the test's binary.
func (s *site) start(flags ...string) { s.startBy(usher.Binary(), flags...) }

// startBy starts usher by a program.
func (s *site) startBy(path string, flags ...string) {
	s.t.Helper()
	flags = append([]string{"--manifests=" + s.Folder, "--admin-socket=" + s.Socket, "--drain-timeout=5s"}, flags...)
	s.usher = usher.StartProgram(s.t, s.NS, path, flags...)
}

// launchBy starts usher without manifests, and does not wait until it is ready.
func (s *site) launchBy(flags ...string) {
	s.t.Helper()
	s.usher = usher.Launch(s.t, s.NS, append([]string{"run", "--log-format=json", "--admin-socket=" + s.Socket}, flags...)...)
}

// answers says whether usher can be asked.
func (s *site) answers() error {
	_, faults, code := usher.Run(s.t, s.NS, "status", "--admin-socket="+s.Socket)
	if code != 0 && code != 1 { // it may serve nothing yet
		return fmt.Errorf("exit code %d: %s", code, faults)
	}
	return nil
}

// ends stops usher, which leaves nothing.
func (s *site) ends() {
	s.t.Helper()
	if code := s.usher.Stop(); code != 0 {
		s.t.Errorf("exit code %d", code)
	}
	s.LeavesNothing()
}
