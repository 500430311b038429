package handover

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Another program is at the path when usher is upgraded.
func TestAnotherVersionTakesOver(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "usher")
	install(t, usher.Binary(), path, 0o755)
	s.startBy(path, "--capture=iptables")
	l := load.Begin(s.Site, load.Small)
	before := s.Status()
	install(t, usher.Variant(next), path, 0o755)
	said, _ := s.Ask(0, "upgrade")
	if !strings.Contains(said, "usher "+nextVersion+" has taken over from "+before.Version) {
		t.Errorf("usher upgrade says %q", said)
	}
	after := s.Status()
	if after.Version != nextVersion || after.Upgrades != 1 || !after.StartedWith(before) {
		t.Errorf("usher is %+v, was %+v", after, before)
	}
	l.Tell()
}

// A file of settings that has changed takes effect, without anybody asking for it, and nobody
// loses a connection by that.
func TestAnotherConfigurationTakesEffect(t *testing.T) {
	s := newSite(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	installText(t, configText("capture: bind", "balancer: round-robin", "logLevel: warning"), config, 0o644)
	s.start("--config=" + config)
	l := load.Begin(s.Site, load.Small)
	installText(t, configText("capture: bind", "balancer: first", "logLevel: info"), config, 0o644)
	s.AwaitUpgrades(1)
	netns.Eventually(t, "the other balancer", func() error {
		out, _ := s.Ask(0, "describe", "service", "web")
		if !strings.Contains(out, "first") {
			return errNotYet(out)
		}
		return nil
	})
	s.usher.WaitLog(`"level":"info"`)
	l.Tell()
}

type errNotYet string

func (e errNotYet) Error() string { return string(e) }
