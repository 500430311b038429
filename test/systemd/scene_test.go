package systemd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// units is where the unit is that the package has, with its group and its files.
const units = "../../examples/systemd/"

// scene is a machine on which usher is installed and not started, with a pod that answers.
type scene struct {
	*Machine
	t    *testing.T
	site *load.Site
}

func newScene(t *testing.T) *scene {
	m := Boot(t)
	s := &scene{Machine: m, t: t, site: load.NewSiteOn(t, m.Node, m.Path("/etc/usher/manifests"), m.Path("/run/usher/usher.sock"))}
	pod := s.site.Pods[0]
	pod.ServeHTTP("pod", pod.AddrPort4(8080))
	s.PushFile("/usr/bin/usher", usher.Binary(), 0o755)
	s.PushFile("/etc/systemd/system/usher.service", units+"usher.service", 0o644)
	s.PushFile("/etc/sysusers.d/usher.conf", units+"usher.sysusers", 0o644)
	s.PushFile("/etc/tmpfiles.d/usher.conf", units+"usher.tmpfiles", 0o644)
	s.Machine.Run("systemd-sysusers")
	s.Machine.Run("systemd-tmpfiles", "--create")
	s.Push("/etc/usher/manifests/page.yaml", fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: page}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: page-1, labels: {kubernetes.io/service-name: page}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [%s]}]
`, pod.IPv4), 0o644)
	s.configure("manifests: [/etc/usher/manifests]")
	s.Systemctl("daemon-reload")
	return s
}

// configure writes usher's configuration file.
func (s *scene) configure(lines ...string) {
	s.t.Helper()
	s.Push("/etc/usher/config.yaml", strings.Join(append([]string{
		"apiVersion: usher-proxy.io/v1alpha1", "kind: UsherConfiguration", "nodeName: machine", "capture: iptables",
	}, lines...), "\n")+"\n", 0o644)
}

// dropIn adds lines to the unit.
func (s *scene) dropIn(lines ...string) {
	s.t.Helper()
	s.Push("/etc/systemd/system/usher.service.d/test.conf", "[Service]\n"+strings.Join(lines, "\n")+"\n", 0o644)
	s.Systemctl("daemon-reload")
}

// is waits until a property of the unit has a value.
func (s *scene) is(property, want string) {
	s.t.Helper()
	s.Await("usher", property, want)
}

// says waits until the journal has a text.
func (s *scene) says(text string) {
	s.t.Helper()
	netns.Eventually(s.t, "the journal says "+text, func() error {
		if all := s.Journal("usher"); !strings.Contains(all, text) {
			return fmt.Errorf("it says\n%s", all)
		}
		return nil
	})
}

// status is the unit's status text.
func (s *scene) status() string {
	s.t.Helper()
	return s.Property("usher", "StatusText")
}

// awaitStatus waits until the status begins with a text.
func (s *scene) awaitStatus(text string) {
	s.t.Helper()
	netns.Eventually(s.t, "the status is "+text, func() error {
		if got := s.status(); !strings.HasPrefix(got, text) {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

// lasts sees to it that the unit stays in a state for some time.
func (s *scene) lasts(d time.Duration, state string) {
	s.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got := s.Property("usher", "ActiveState"); got != state {
			s.t.Fatalf("usher is %s\n%s", got, s.Journal("usher"))
		}
	}
}

const vip = "http://10.96.0.10"

// served waits until the Service answers a client outside of the machine.
func (s *scene) served() {
	s.t.Helper()
	netns.Eventually(s.t, "the Service answers", func() error {
		_, err := s.Client.Get(vip)
		return err
	})
}

// ruled says whether usher has rules in the machine.
func (s *scene) ruled() bool {
	s.t.Helper()
	return strings.Contains(s.Machine.Run("iptables-save"), "USHER")
}

// holdRules has whoever writes rules for Services wait as long as /run/held exists, as they
// do for the xtables lock.
func (s *scene) holdRules() {
	s.t.Helper()
	for _, program := range []string{"iptables", "iptables-save"} {
		s.Machine.Run("ln", "-s", "/usr/sbin/"+program, "/usr/local/sbin/"+program)
	}
	s.Push("/usr/local/sbin/iptables-restore", `#!/bin/sh
[ "$1" != --version ] || exec /usr/sbin/iptables-restore "$@"
rules=$(cat)
case $rules in *10.96.0.*) while [ -e /run/held ]; do sleep 0.05; done ;; esac
echo "$rules" | exec /usr/sbin/iptables-restore "$@"
`, 0o755)
}
