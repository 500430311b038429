package node

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/usher"
)

// kubeProxyRules are the least of what a kube-proxy leaves.
const kubeProxyRules = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
`

func (s *scene) leaveKubeProxyRules() {
	s.t.Helper()
	cmd := s.Command(s.t.Context(), "iptables-restore", "--noflush")
	cmd.Stdin = strings.NewReader(kubeProxyRules)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// given what a kube-proxy has left, then usher does not start beside it, tells what to
// do, and starts when that was done; or when it is told to, or serves other Services.
func TestRulesOfKubeProxy(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	before := s.rules()
	s.leaveKubeProxyRules()

	for _, capture := range []string{"auto", "iptables"} {
		u := s.launch("run", "--capture="+capture)
		if code := u.Wait(); code != 1 {
			t.Errorf("--capture=%s starts beside kube-proxy's rules: exit code %d", capture, code)
		}
		for _, says := range []string{"does not seem to run", "2 chains of iptables", "usher cleanup --kube-proxy", "--with-kube-proxy", "--service-proxy-name"} {
			if !strings.Contains(u.Log(), says) {
				t.Errorf("--capture=%s does not tell of %q: %s", capture, says, u.Log())
			}
		}
	}

	_, _, code := usher.Run(t, s.NS, "check", "--manifests="+s.folder)
	if code != 1 {
		t.Errorf("usher check ends with %d", code)
	}
	told := s.start("--with-kube-proxy")
	served(t, s.client.NS, vip(10))
	told.WaitLog("usher starts nevertheless")
	told.Stop()
	beside := s.launch("run", "--service-proxy-name=other")
	beside.WaitLog("usher serves the other Services")
	beside.Stop()

	stdout, stderr, code := usher.Run(t, s.NS, "cleanup", "--kube-proxy")
	if code != 0 || !strings.Contains(stdout, "removed 2 chains of kube-proxy and 2 jumps to them") {
		t.Errorf("cleanup ends with %d: %s%s", code, stdout, stderr)
	}
	if after := s.rules(); strings.Contains(after, "KUBE-") {
		t.Errorf("the rules are\n%s\nthey were\n%s", after, before)
	}
	if stdout, stderr, code := usher.Run(t, s.NS, "cleanup", "--kube-proxy"); code != 0 || stdout != "kube-proxy has left nothing\n" {
		t.Errorf("a second time cleanup ends with %d: %s%s", code, stdout, stderr)
	}
	s.start()
	served(t, s.client.NS, vip(10))
}

// given a running usher, which answers where kube-proxy does, then it is not taken for
// one.
func TestRunningUsherIsNoKubeProxy(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start()
	served(t, s.client.NS, vip(10))
	if stdout, stderr, code := usher.Run(t, s.NS, "cleanup", "--kube-proxy"); code != 0 {
		t.Errorf("cleanup ends with %d: %s%s", code, stdout, stderr)
	}
	served(t, s.client.NS, vip(10))
}

// The whole report of the real binary; numbers and versions are this machine's.
func TestCheck(t *testing.T) {
	s := newScene(t)
	s.Sysctl("net/core/somaxconn", "1000")
	stdout, stderr, code := usher.Run(t, s.NS, "check", "--manifests="+s.folder)
	if code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	want := regexp.MustCompile(`^OK    services        manifests can be read: \S+
OK    capabilities    CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE
OK    iptables        iptables [\d.]+ \(\w+\) can write the rules that usher needs
OK    ip6tables       ip6tables [\d.]+ \(\w+\) can write the rules that usher needs
OK    backends        .+
OK    kube-proxy      kube-proxy does not run, and has left nothing
OK    client address  transparent sockets can be had, and replies be led back to them
OK    policy routing  .+
OK    refusals        no need of forwarding: .+
OK    other servers   in nobody's way, .+
(OK  |WARN)  files           \d+ may be open, room for \d+ connections at a time beside the sockets of 1000 Services \(a guess\).*
OK    log file        none: records go to stderr
OK    ports           11000-29999 has 19000 ports, \d+ of them in use
WARN  somaxconn       1000 connections may wait for each Service port: in a burst, more are dropped and come a second later. To do: set net.core.somaxconn to 4096 or more \(sysctl -w, and a file in /etc/sysctl.d\)
(OK  |WARN)  conntrack       \d+ of \d+ entries are used.*
OK    rp_filter       .+
$`)
	if !want.MatchString(stdout) {
		t.Errorf("the report is\n%s", stdout)
	}

	s.leaveKubeProxyRules()
	stdout, stderr, code = usher.Run(t, s.NS, "check", "--manifests="+s.folder, "-o", "json")
	if code != 1 || !strings.Contains(stderr, "FAIL") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	var results []struct{ Name, Level, Text, Do string }
	if err := json.Unmarshal([]byte(stdout), &results); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	for _, r := range results {
		if (r.Name == "kube-proxy") != (r.Level == "FAIL") || (r.Level != "OK") != (r.Do != "") {
			t.Errorf("%+v", r)
		}
	}
}
