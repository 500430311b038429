package handover

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Another program is at the path when usher is upgraded.
func TestAnotherVersionTakesOver(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "usher")
	install(t, usher.Binary(), path, 0o755)
	s.startBy(path, "--capture=iptables")
	l, _ := smallLoad(s)
	before := s.status()
	install(t, usher.Variant(next), path, 0o755)
	said, _ := s.ask(0, "upgrade")
	if !strings.Contains(said, "usher "+nextVersion+" has taken over from "+before.Version) {
		t.Errorf("usher upgrade says %q", said)
	}
	after := s.status()
	if after.Version != nextVersion || after.Upgrades != 1 || !after.startedWith(before) {
		t.Errorf("usher is %+v, was %+v", after, before)
	}
	l.end()
	l.tell()
}

// A file of settings that has changed takes effect, without anybody asking for it, and nobody
// loses a connection by that.
func TestAnotherConfigurationTakesEffect(t *testing.T) {
	s := newSite(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	installText(t, configText("capture: bind", "balancer: round-robin", "logLevel: warning"), config, 0o644)
	s.start("--config=" + config)
	l, _ := smallLoad(s)
	installText(t, configText("capture: bind", "balancer: first", "logLevel: info"), config, 0o644)
	s.awaitUpgrades(1)
	netns.Eventually(t, "the other balancer", func() error {
		out, _ := s.ask(0, "describe", "service", "web")
		if !strings.Contains(out, "first") {
			return errNotYet(out)
		}
		return nil
	})
	s.usher.WaitLog(`"level":"info"`)
	l.end()
	l.tell()
}

type errNotYet string

func (e errNotYet) Error() string { return string(e) }
