package scale

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// A proxy is one that runs on a node.
type proxy struct {
	t     testing.TB
	node  *node
	cmd   *netns.Cmd
	log   string // path
	began time.Time
}

// start runs a program on a node. What it says goes to a file, which is shown if the test fails.
func start(t testing.TB, n *node, program string, args ...string) *proxy {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the program has its own
	p := &proxy{t: t, node: n, cmd: n.Command(context.Background(), program, args...), log: log.Name()}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(p.log)
			t.Logf("the last that %s on %s said:\n%s", filepath.Base(program), n.Name, text[max(0, len(text)-4<<10):])
		}
	})
	return p
}

// startUsher runs usher for the Services of a proxy's name, "" for those of the cluster.
func (s *site) startUsher(n *node, name string) *proxy {
	s.t.Helper()
	args := []string{
		"run", "--kubeconfig=" + s.api.Usher.Kubeconfig, "--node-name=" + n.Name, "--capture=iptables",
		"--log-format=json", "--admin-socket=", "--drain-timeout=1s", "--service-proxy-name=" + name,
		"--healthz-bind-address=0.0.0.0:10256", "--metrics-bind-address=" + usherMetrics.String(),
		fmt.Sprintf("--profiling=%t", os.Getenv(profileEnv) != ""),
	}
	return start(s.t, n, os.Getenv("USHER_TEST_BINARY"), append(args, usherFlags()...)...)
}

var usherMetrics = netip.MustParseAddrPort("127.0.0.1:10249")

// kubeProxyConfig takes the kubeconfig and the node's name. minSyncPeriod is 1s by default: its
// own latency is to be seen. Without the limits of connection tracking it needs no more rights
// than an ordinary user has in namespaces of his own.
const kubeProxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %s}
hostnameOverride: %s
detectLocalMode: NodeCIDR
nftables: {minSyncPeriod: 10ms, syncPeriod: 30s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
oomScoreAdj: 0
`

func (s *site) startKubeProxy(program string) *proxy {
	s.t.Helper()
	config := filepath.Join(s.t.TempDir(), "config.yaml")
	s.must(os.WriteFile(config, fmt.Appendf(nil, kubeProxyConfig, s.api.Admin.Kubeconfig, s.other.Name), 0o600))
	return start(s.t, s.other, program, "--config="+config)
}

// stop ends the proxy and takes away what it leaves in the kernel: kube-proxy leaves its rules.
func (p *proxy) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	p.cmd.Wait()
	if filepath.Base(p.cmd.Path) == "kube-proxy" {
		p.node.Run("nft", "flush", "ruleset")
	}
}

// usage is what a process has used since it began, and holds.
type usage struct {
	cpu       time.Duration // user and system time, also of the programs that it has run
	rss, peak float64       // bytes
}

// usage reads /proc/PID/stat and status (proc(5)).
func (p *proxy) usage() (u usage) {
	p.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		p.t.Fatal(err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on, the state
	for _, i := range []int{14, 15, 16, 17} {
		ticks, err := strconv.Atoi(string(fields[i-3]))
		if err != nil {
			p.t.Fatalf("%sstat: %v", dir, err)
		}
		u.cpu += time.Duration(ticks) * time.Second / 100
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		p.t.Fatal(err)
	}
	u.rss, u.peak = kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
	return u
}

// kilobytes is the value of a line such as "VmRSS:   100 kB", in bytes.
func kilobytes(status []byte, name string) float64 {
	_, rest, _ := bytes.Cut(status, []byte(name))
	n, _ := strconv.ParseFloat(string(bytes.Fields(append(rest, " 0"...))[0]), 64)
	return 1024 * n
}

// metrics are those of usher's that have no labels.
func (p *proxy) metrics() map[string]float64 {
	p.t.Helper()
	text, err := p.node.Get("http://" + usherMetrics.String() + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = v
		}
	}
	return all
}

// saidAt is when usher has said a line that contains text.
func (p *proxy) saidAt(text string) time.Time {
	p.t.Helper()
	f, err := os.Open(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var line struct {
			TS  time.Time
			Msg string
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && strings.Contains(line.Msg, text) {
			return line.TS
		}
	}
	p.t.Fatalf("usher has not said %q", text)
	return time.Time{}
}
