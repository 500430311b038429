package preflight

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// usual is what usher run has by default, for a folder of manifests.
func usual(t *testing.T) Config {
	return Config{
		Proxier: proxier.Config{
			Capture: "auto", NodeName: "node",
			ProxyPortRange: proxier.PortRange{First: 11000, Last: 29999},
			Mark:           iptables.Mark{Value: 0x20, Mask: 0x20}, ReturnMark: iptables.Mark{Value: 0x40, Mask: 0x40},
		},
		Manifests: []string{t.TempDir()},
	}
}

// check runs all checks on a node and returns their results by name. prepare runs
// before, on their thread, which ends with them.
func check(t *testing.T, ns *netns.NS, c Config, prepare ...func()) map[string]Result {
	t.Helper()
	var list []Result
	ns.Do(func() {
		for _, f := range prepare {
			f()
		}
		list = Run(context.Background(), c)
	})
	results := map[string]Result{}
	for _, r := range list {
		results[r.Name] = r
		if (r.Do == "") != (r.Level == OK) || r.Text == "" || strings.Contains(r.Text+r.Do, "\n") {
			t.Errorf("not a line that helps: %+v", r)
		}
	}
	return results
}

// want compares one result.
func want(t *testing.T, results map[string]Result, name string, level Level, says string) {
	t.Helper()
	if r := results[name]; r.Level != level || !strings.Contains(r.Text+" | "+r.Do, says) {
		t.Errorf("%s: %+v, want %s that says %q", name, r, level, says)
	}
}

// healthy makes of a new namespace a node that everything is well on, as far as that
// is the namespace's to say.
func healthy(t *testing.T) *netns.NS {
	ns := netns.New(t, "node")
	ns.Sysctl("net/core/somaxconn", "4096")
	return ns
}

// given a node on which all is well, then all is OK, and nothing has changed.
func TestAllIsWell(t *testing.T) {
	ns := healthy(t)
	state := func() string {
		return ns.Run("iptables-save") + ns.Run("ip6tables-save") + ns.Run("ip", "rule") + ns.Run("ip", "route", "show", "table", "all")
	}
	ns.Run("iptables", "-t", "nat", "-N", "X") // makes the tables that a probe would
	ns.Run("iptables", "-t", "mangle", "-N", "X")
	before := withoutTimes(state())
	for name, r := range check(t, ns, usual(t)) {
		if r.Level != OK && name != "files" && name != "conntrack" { // which this machine decides
			t.Errorf("%+v", r)
		}
	}
	for _, line := range strings.Split(withoutTimes(state()), "\n") {
		if !strings.Contains(before, line) && !strings.HasPrefix(line, ":") && !strings.HasPrefix(line, "*") {
			t.Errorf("the checks left %q", line)
		}
	}
}

func withoutTimes(saved string) string {
	var kept []string
	for line := range strings.Lines(saved) {
		if !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		capture string
		without []int
		level   Level
		says    string
	}{
		{"auto", nil, OK, "CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE"},
		{"auto", []int{unix.CAP_NET_ADMIN}, Warn, "CAP_NET_ADMIN is missing"},
		{"bind", []int{unix.CAP_NET_ADMIN}, Warn, "127.0.0.0/8"},
		{"iptables", []int{unix.CAP_NET_ADMIN}, Fail, "no rule can be written"},
		{"bind", []int{unix.CAP_NET_BIND_SERVICE}, Warn, "ip_unprivileged_port_start"},
		{"iptables", []int{unix.CAP_NET_BIND_SERVICE}, OK, "CAP_NET_ADMIN, CAP_NET_RAW"},
	} {
		cfg := usual(t)
		cfg.Proxier.Capture = c.capture
		results := check(t, netns.New(t, "node"), cfg, func() { drop(t, c.without...) })
		want(t, results, "capabilities", c.level, c.says)
		if len(c.without) > 0 && c.without[0] == unix.CAP_NET_ADMIN && c.capture != "bind" {
			for _, name := range []string{"iptables", "ip6tables", "backends", "kube-proxy", "client address"} {
				want(t, results, name, Warn, "only root can tell")
			}
		}
	}
}

// drop takes capabilities away from the calling thread, and from programs that it
// starts.
func drop(t *testing.T, capabilities ...int) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	for _, n := range capabilities {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		data[n/32].Effective &^= 1 << (n % 32)
		data[n/32].Permitted &^= 1 << (n % 32)
		data[n/32].Inheritable &^= 1 << (n % 32)
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

// given a node without iptables, or with one that cannot do what is needed.
func TestIPTables(t *testing.T) {
	for _, c := range []struct {
		name, capture string
		programs      map[string]string
		level, level6 Level
		says, do      string
	}{
		{"none", "auto", nil, Warn, Warn, "iptables is not installed: usher falls back to --capture=bind", "install the iptables package"},
		{"none", "iptables", nil, Fail, Warn, "iptables is not installed", "or use --capture=bind"},
		{"none", "bind", nil, OK, OK, "not needed", ""},
		{"old", "iptables", map[string]string{"iptables": "iptables v1.4.21", "iptables-restore": "iptables-restore v1.4.21"},
			Fail, Warn, "older than 1.6.2", "load the kernel modules"},
		{"no restore", "auto", map[string]string{"iptables": "iptables v1.8.9 (nf_tables)"},
			Warn, Warn, "iptables-restore of the backend of", "load the kernel modules"},
	} {
		dir := t.TempDir()
		for name, version := range c.programs {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(c.name+" "+c.capture, func(t *testing.T) {
			t.Setenv("PATH", dir)
			cfg := usual(t)
			cfg.Proxier.Capture = c.capture
			results := check(t, netns.New(t, "node"), cfg)
			want(t, results, "iptables", c.level, c.says)
			want(t, results, "iptables", c.level, c.do)
			want(t, results, "ip6tables", c.level6, "")
			if c.programs == nil {
				want(t, results, "kube-proxy", OK, "has left nothing")
			}
		})
	}
}

func TestBackends(t *testing.T) {
	if _, err := exec.LookPath("iptables-legacy"); err != nil {
		t.Skip(err)
	}
	ns := netns.New(t, "node")
	want(t, check(t, ns, usual(t)), "backends", OK, "no rules yet")
	ns.Run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
	want(t, check(t, ns, usual(t)), "backends", OK, "only one has rules and chains: 1 in iptables")
	ns.Run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
	want(t, check(t, ns, usual(t)), "backends", Warn, "rules and chains are in both iptables backends")
	ns.Run("iptables-nft", "-F", "INPUT")
	want(t, check(t, ns, usual(t)), "backends", Warn, "others use another backend than usher would")
}

const kubeProxyRules = `*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080
COMMIT
`

func TestKubeProxy(t *testing.T) {
	ns := netns.New(t, "node")
	cmd := ns.Command(t.Context(), "iptables-restore", "--noflush")
	cmd.Stdin = strings.NewReader(kubeProxyRules)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	cfg := usual(t)
	want(t, check(t, ns, cfg), "kube-proxy", Fail, "run 'usher cleanup --kube-proxy'")
	cfg.Proxier.KubeProxy = proxier.IgnoreKubeProxy
	want(t, check(t, ns, cfg), "kube-proxy", Warn, "its rules still serve Services")
	cfg.Proxier.KubeProxy = proxier.BesideKubeProxy
	want(t, check(t, ns, cfg), "kube-proxy", OK, "usher serves the other Services")
	cfg = usual(t)
	cfg.Proxier.Capture = "bind"
	want(t, check(t, ns, cfg), "kube-proxy", Warn, "its rules still serve Services")
	ns.Run("iptables", "-t", "nat", "-F", "PREROUTING")
	want(t, check(t, ns, usual(t)), "kube-proxy", Warn, "leads no Services anywhere")
}

func TestSomaxconn(t *testing.T) {
	for value, level := range map[string]Level{"4096": OK, "65535": OK, "4095": Warn, "128": Warn, "127": Fail} {
		ns := netns.New(t, "node")
		ns.Sysctl("net/core/somaxconn", value)
		want(t, check(t, ns, usual(t)), "somaxconn", level, value+" connections")
	}
}

func TestRPFilter(t *testing.T) {
	ns := netns.New(t, "node")
	for i, name := range []string{"eth0", "eth1"} {
		ns.Run("ip", "link", "add", name, "type", "bridge")
		ns.Run("ip", "link", "set", name, "up")
		ns.Run("ip", "addr", "add", fmt.Sprintf("192.0.%d.2/24", i), "dev", name)
	}
	ns.Sysctl("net/ipv4/conf/all/rp_filter", "0")
	ns.Sysctl("net/ipv4/conf/eth0/rp_filter", "1")
	ns.Sysctl("net/ipv4/conf/eth1/rp_filter", "0")
	want(t, check(t, ns, usual(t)), "rp_filter", OK, "in nobody's way")
	ns.Run("ip", "route", "add", "default", "via", "192.0.0.1")
	want(t, check(t, ns, usual(t)), "rp_filter", OK, "one way out: eth0")
	ns.Run("ip", "route", "add", "default", "via", "192.0.1.1", "metric", "100")
	want(t, check(t, ns, usual(t)), "rp_filter", Warn, "strict on eth0, and there are default routes by eth0, eth1")
	ns.Sysctl("net/ipv4/conf/all/rp_filter", "2")
	want(t, check(t, ns, usual(t)), "rp_filter", OK, "in nobody's way")
}

func TestPorts(t *testing.T) {
	ns := netns.New(t, "node")
	cfg := usual(t)
	want(t, check(t, ns, cfg), "ports", OK, "11000-29999 has 19000 ports, 0 of them in use")
	ns.Listen("tcp", netip.MustParseAddrPort("127.0.0.1:11000"))
	ns.Listen("tcp", netip.MustParseAddrPort("[::]:11001"))
	ns.ListenUDP(netip.MustParseAddrPort("0.0.0.0:29999"))
	ns.ListenUDP(netip.MustParseAddrPort("0.0.0.0:10999"))
	ns.Listen("tcp", netip.MustParseAddrPort("127.0.0.1:10999"))
	conn, err := ns.DialWith(t.Context(), &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 12345}}, "tcp", "127.0.0.1:10999")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // it is no listener
	want(t, check(t, ns, cfg), "ports", OK, "3 of them in use")
	ns.Sysctl("net/ipv4/ip_local_port_range", "20000 60000")
	want(t, check(t, ns, cfg), "ports", Warn, "ip_local_port_range (20000-60000)")
	cfg.Proxier.ProxyPortRange = proxier.PortRange{First: 15000, Last: 32000}
	want(t, check(t, ns, cfg), "ports", Warn, "NodePorts (30000-32767)")
	cfg.Proxier.ProxyPortRange = proxier.PortRange{First: 11000, Last: 11100}
	want(t, check(t, ns, cfg), "ports", Warn, "1000 Services (a guess)")
	cfg.Proxier.Capture = "bind"
	want(t, check(t, ns, cfg), "ports", OK, "not needed")
	if r := judgePorts(proxier.PortRange{First: 11000, Last: 11099}, proxier.PortRange{First: 40000, Last: 50000}, 0, 101, "51 Services"); r.Level != Fail || !strings.Contains(r.Text, "51 Services") {
		t.Errorf("too few ports: %+v", r)
	}
	if r := judgePorts(proxier.PortRange{First: 11000, Last: 11099}, proxier.PortRange{First: 40000, Last: 50000}, 0, 100, "50 Services"); r.Level != OK {
		t.Errorf("just enough ports: %+v", r)
	}
}

func TestFiles(t *testing.T) {
	for _, c := range []struct {
		most, listeners int
		level           Level
	}{{1024, 2000, Fail}, {65536, 2000, OK}, {8192, 2000, OK}, {4096, 2000, Warn}, {1024, 20, Warn}, {1 << 20, 40000, OK}, {20000, 20000, Fail}} {
		if r := judgeFiles(c.most, c.listeners, "S"); r.Level != c.level {
			t.Errorf("%d files for %d listeners: %+v, want %s", c.most, c.listeners, r, c.level)
		}
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 700, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	want(t, check(t, netns.New(t, "node"), usual(t)), "files", Fail, "700 may be open")
}

func TestLogFile(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there.log")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path  string
		level Level
		says  string
	}{
		{"", OK, "stderr"},
		{there, OK, there},
		{filepath.Join(dir, "new.log"), OK, "new.log"},
		{dir, Fail, "it is a directory | make its directory"},
		{filepath.Join(dir, "none", "usher.log"), Fail, "no such file or directory | make its directory"},
		{filepath.Join(there, "usher.log"), Fail, "not a directory"},
		{"/proc/sys/usher.log", Fail, "/proc/sys/usher.log: "}, // where even root may not
	} {
		r := logFile(t.Context(), &node{Config: Config{LogFile: c.path}})
		r.Name = "log file"
		want(t, map[string]Result{r.Name: r}, r.Name, c.level, c.says)
	}
	if list, err := os.ReadDir(dir); len(list) != 1 || err != nil {
		t.Errorf("it has left something: %v, %v", list, err)
	}
}

func TestConntrack(t *testing.T) {
	for _, c := range []struct {
		used, most int
		level      Level
	}{{0, 262144, OK}, {262144, 262144, Fail}, {240000, 262144, Warn}, {10, 32768, Warn}, {10, 0, OK}} {
		if r := judgeConntrack(c.used, c.most); r.Level != c.level {
			t.Errorf("%d of %d: %+v, want %s", c.used, c.most, r, c.level)
		}
	}
}

func TestPolicyRouting(t *testing.T) {
	ns := netns.New(t, "node")
	cfg := usual(t)
	want(t, check(t, ns, cfg), "policy routing", OK, "there are rules")
	cfg.PolicyRouting = func() error { return unix.EPERM }
	want(t, check(t, ns, cfg), "policy routing", Warn, "only root can tell")
	cfg.PolicyRouting = func() error { return unix.EOPNOTSUPP }
	cfg.Proxier.Capture = "bind"
	want(t, check(t, ns, cfg), "policy routing", Warn, "AnyIP")
	cfg.PolicyRouting = func() error { return nil }
	want(t, check(t, ns, cfg), "policy routing", OK, "made and removed")
}

func TestClientAddress(t *testing.T) {
	cfg := usual(t)
	want(t, check(t, netns.New(t, "node"), cfg), "client address", OK, "replies be led back")
	cfg.Proxier.ReturnMark = iptables.Mark{}
	want(t, check(t, netns.New(t, "node"), cfg), "client address", OK, "--preserve-source=never")
	cfg.Proxier.Capture = "bind"
	want(t, check(t, netns.New(t, "node"), cfg, func() { drop(t, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW) }), "client address", Warn, "only Service addresses that belong to this node")
}

func TestManifests(t *testing.T) {
	cfg := usual(t)
	cfg.Manifests = append(cfg.Manifests, cfg.Manifests[0]+"/missing.yaml")
	want(t, check(t, netns.New(t, "node"), cfg), "services", Fail, "missing.yaml")
	cfg.Manifests, cfg.RESTError = nil, os.ErrNotExist
	want(t, check(t, netns.New(t, "node"), cfg), "services", Fail, "give --kubeconfig")
}

// fakeAPI answers what an API server would, with rights that a test takes away.
type fakeAPI struct {
	denied map[string]bool // "watch services"
	status int             // of every answer, if not 0
	more   int             // Services beside the first one
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.status != 0:
		w.WriteHeader(f.status)
		fmt.Fprint(w, `{"kind":"Status","message":"go away"}`)
	case r.URL.Path == "/version":
		fmt.Fprint(w, `{"gitVersion":"v1.36.3"}`)
	case r.URL.Path == "/api/v1/services" && r.URL.Query().Get("limit") == "1":
		fmt.Fprintf(w, `{"metadata":{"remainingItemCount":%d},"items":[{"kind":"Service"}]}`, f.more)
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		var review authorizationv1.SelfSubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Spec.ResourceAttributes == nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a := review.Spec.ResourceAttributes
		group := map[string]string{"services": "", "nodes": "", "events": "", "endpointslices": "discovery.k8s.io"}
		name := map[string]string{"nodes": "node"}
		review.Status.Allowed = !f.denied[a.Verb+" "+a.Resource] && a.Group == group[a.Resource] && a.Name == name[a.Resource]
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(review)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// The checks run where the server is: in the namespace of the test itself.
func TestAPIServer(t *testing.T) {
	for _, c := range []struct {
		name  string
		api   fakeAPI
		level Level
		says  string
	}{
		{"well", fakeAPI{more: 41}, OK, "(v1.36.3) answers and allows what usher needs; it has 42 Services"},
		{"denied", fakeAPI{denied: map[string]bool{"watch endpointslices": true, "list nodes": true}}, Fail, "forbids usher to watch endpointslices, list nodes"},
		{"no events", fakeAPI{denied: map[string]bool{"create events": true}}, Warn, "create events"},
		{"not known", fakeAPI{status: http.StatusUnauthorized}, Fail, "401 Unauthorized go away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(&c.api)
			defer server.Close()
			cfg := usual(t)
			cfg.Manifests, cfg.REST = nil, &rest.Config{Host: server.URL}
			results := map[string]Result{}
			for _, r := range Run(t.Context(), cfg) {
				results[r.Name] = r
			}
			want(t, results, "services", c.level, c.says)
			if c.level == OK {
				want(t, results, "files", results["files"].Level, "42 Services")
			}
		})
	}
	server := httptest.NewServer(&fakeAPI{})
	gone := server.URL
	server.Close()
	cfg := usual(t)
	cfg.Manifests, cfg.REST = nil, &rest.Config{Host: gone}
	for _, r := range Run(t.Context(), cfg) {
		if r.Name == "services" && (r.Level != Fail || !strings.Contains(r.Text, "does not answer")) {
			t.Errorf("%+v", r)
		}
	}
}

func TestFailed(t *testing.T) {
	if Failed([]Result{ok(""), warn("", "")}) || !Failed([]Result{ok(""), fail("", "")}) {
		t.Error("it is the FAIL that counts")
	}
}
