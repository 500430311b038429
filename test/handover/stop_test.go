package handover

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
)

// Several who ask at once get one upgrade, or one after the other; nothing is lost.
func TestHangupsAtOnce(t *testing.T) {
	s := newSite(t)
	s.start("--capture=bind")
	l := load.Begin(s.Site, load.Small)
	for n := range 3 {
		for range 3 {
			s.usher.Signal(syscall.SIGHUP)
		}
		s.AwaitUpgrades(n + 1)
	}
	l.Tell()
	s.ends()
}

// Whoever stops is not upgraded, and ends as it would have.
func TestHangupWhileStopping(t *testing.T) {
	for _, first := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(first.String()+" first", func(t *testing.T) {
			s := newSite(t)
			s.start("--capture=iptables")
			l := load.Begin(s.Site, load.Small)
			second := syscall.SIGTERM
			if first == second {
				second = syscall.SIGHUP
			}
			s.usher.Signal(first)
			s.usher.Signal(second)
			l.End()
			if code := s.usher.Wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			s.LeavesNothing()
		})
	}
}

// Nothing is handed over as well as much is.
func TestUpgradeWithoutServices(t *testing.T) {
	for _, capture := range []string{"iptables", "bind"} {
		t.Run(capture, func(t *testing.T) {
			s := newSite(t)
			s.start("--capture=" + capture)
			for n := range 3 {
				s.Ask(0, "upgrade")
				if now := s.Status(); now.Upgrades != n+1 {
					t.Errorf("usher is %+v", now)
				}
			}
			l := load.Begin(s.Site, load.Small) // Services that come later are served
			l.Flows()
			l.Tell()
			s.ends()
		})
	}
}

const kubeconfigText = `
apiVersion: v1
kind: Config
clusters: [{name: one, cluster: {server: "http://%s"}}]
contexts: [{name: one, context: {cluster: one, user: one}}]
users: [{name: one}]
current-context: one
`

// An API server that is away keeps nobody from being upgraded, neither before the first sync
// nor, which is the same for who takes over, after it.
func TestUpgradeWithoutAnAPIServer(t *testing.T) {
	for name, address := range map[string]string{"refuses": "127.0.0.1:1", "is silent": "192.0.2.2:6443"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.Client.Run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "6443", "-j", "DROP")
			kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
			installText(t, fmt.Sprintf(kubeconfigText, address), kubeconfig, 0o600)
			s.launchBy("--kubeconfig="+kubeconfig, "--capture=bind", "--node-name=node")
			netns.EventuallyWithin(t, 30*time.Second, "usher answers", func() error { return s.answers() })
			for n := range 2 {
				began := time.Now()
				s.Ask(0, "upgrade")
				if took := time.Since(began); took > 4*time.Second {
					t.Errorf("it took %v", took)
				}
				var now admin.Status // which usher status does not tell of one that serves nothing yet
				if err := admin.Get(t.Context(), s.Socket, "/v1/status", nil, &now); err != nil || now.Upgrades != n+1 || now.Ready {
					t.Errorf("usher is %+v, %v", now, err)
				}
			}
			if strings.Contains(s.usher.Log(), `"level":"error"`) {
				t.Error("it tells of an error")
			}
			if code := s.usher.Stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}
