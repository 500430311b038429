package cli

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/outlier"
	"github.com/usher-proxy/usher/proxier/tcp"
	"github.com/usher-proxy/usher/proxier/udp"
)

// parsed are the options of a command line, as far as pflag reads it.
func parsed(args ...string) (*options, error) {
	cmd := &cobra.Command{Use: "run"}
	o := newOptions(nil)
	o.addTo(cmd)
	return o, cmd.ParseFlags(args)
}

// configured is what a command line means.
func configured(args ...string) (*options, proxier.Config, error) {
	o, err := parsed(args...)
	if err != nil {
		return o, proxier.Config{}, err
	}
	cfg, err := o.config()
	return o, cfg, err
}

// mustConfigure fails the test if the command line is not accepted.
func mustConfigure(t *testing.T, args ...string) (*options, proxier.Config) {
	t.Helper()
	o, cfg, err := configured(args...)
	if err != nil {
		t.Fatalf("usher run %s: %v", strings.Join(args, " "), err)
	}
	return o, cfg
}

// told is what the log is told of the settings.
func told(o *options) (lines []string) {
	log, hook := logtest.NewNullLogger()
	o.tell(log)
	for _, e := range hook.AllEntries() {
		lines = append(lines, e.Message)
	}
	return lines
}

// inFile writes a file for the test and returns its name.
func inFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// meanings are command lines, and what has to be so after each.
var meanings = []struct {
	args string
	is   func(o *options, c *proxier.Config) bool
}{
	{"--kubeconfig=/k", func(o *options, _ *proxier.Config) bool { return o.source.kubeconfig == "/k" }},
	{"--master=10.0.0.1", func(o *options, _ *proxier.Config) bool { return o.source.master == "10.0.0.1" }},
	{"--kube-api-qps=2.5", func(o *options, _ *proxier.Config) bool { return o.source.qps == 2.5 }},
	{"--kube-api-qps=-1", func(o *options, _ *proxier.Config) bool { return o.source.qps == -1 }},
	{"--kube-api-burst=7", func(o *options, _ *proxier.Config) bool { return o.source.burst == 7 }},
	{"--kube-api-content-type=application/json", func(o *options, _ *proxier.Config) bool { return o.source.contentType == "application/json" }},
	{"--last-state=/var/lib/usher/last-state", func(o *options, _ *proxier.Config) bool {
		file, err := o.source.lastStateFile()
		return err == nil && file == "/var/lib/usher/last-state" && o.source.lastStateMaxAge == 24*time.Hour
	}},
	{"", func(o *options, _ *proxier.Config) bool {
		file, err := o.source.lastStateFile()
		return err == nil && file == ""
	}},
	{"--last-state=kept --last-state-max-age=0", func(o *options, _ *proxier.Config) bool {
		return o.source.lastState == "kept" && o.source.lastStateMaxAge == 0
	}},
	{"--manifests=a --manifests=b,c", func(o *options, c *proxier.Config) bool {
		return reflect.DeepEqual(o.source.manifests, []string{"a", "b,c"}) && c.AllowLoopbackEndpoints
	}},
	{"", func(_ *options, c *proxier.Config) bool { return c.KubeProxy == proxier.RefuseKubeProxy }},
	{"--with-kube-proxy", func(_ *options, c *proxier.Config) bool { return c.KubeProxy == proxier.IgnoreKubeProxy }},
	{"--with-kube-proxy --service-proxy-name=usher", func(_ *options, c *proxier.Config) bool { return c.KubeProxy == proxier.BesideKubeProxy }},
	{"--service-proxy-name=usher", func(o *options, c *proxier.Config) bool {
		return o.source.serviceProxyName == "usher" && c.HealthzAddress == "0.0.0.0:10356" && c.MetricsAddress == "127.0.0.1:10349"
	}},
	{"--service-proxy-name=usher --healthz-bind-address=0.0.0.0:1 --metrics-bind-address=", func(_ *options, c *proxier.Config) bool {
		return c.HealthzAddress == "0.0.0.0:1" && c.MetricsAddress == ""
	}},
	{"--service-proxy-name=usher --healthz-bind-address=10.0.0.1", func(_ *options, c *proxier.Config) bool { return c.HealthzAddress == "10.0.0.1:10356" }},

	{"--node-name=A", func(_ *options, c *proxier.Config) bool { return c.NodeName == "a" }},
	{"--hostname-override=Node-1", func(_ *options, c *proxier.Config) bool { return c.NodeName == "node-1" }},
	{"", func(_ *options, c *proxier.Config) bool {
		host, _ := os.Hostname()
		return c.NodeName == strings.ToLower(host)
	}},
	{"--node-ip=10.0.0.1,fd00::1", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.NodeIPs, []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}) && c.HealthzAddress == "0.0.0.0:10256"
	}},
	{"--node-ip=010.000.0.1", func(_ *options, c *proxier.Config) bool { return c.NodeIPs[0] == netip.MustParseAddr("10.0.0.1") }},
	{"--bind-address=0.0.0.0", func(_ *options, c *proxier.Config) bool { return c.NodeIPs == nil }},
	{"--bind-address=::", func(_ *options, c *proxier.Config) bool {
		return c.NodeIPs == nil && c.HealthzAddress == "[::]:10256" && c.MetricsAddress == "[::1]:10249"
	}},

	{"--capture=iptables", func(_ *options, c *proxier.Config) bool { return c.Capture == "iptables" }},
	{"--capture=bind --announce-vips --any-ip", func(_ *options, c *proxier.Config) bool { return c.AnnounceVIPs && c.AnyIP }},
	{"--proxy-port-range=5000-5001", func(_ *options, c *proxier.Config) bool {
		return c.ProxyPortRange == proxier.PortRange{First: 5000, Last: 5001}
	}},
	{"--mark=0x10/0x30", func(_ *options, c *proxier.Config) bool { return c.Mark == iptables.Mark{Value: 0x10, Mask: 0x30} }},

	{"--nodeport-addresses=10.1.2.3/8,primary --nodeport-addresses=localhost", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.NodePortAddresses, proxier.NodePortAddresses{CIDRs: prefixes("10.0.0.0/8"), Primary: true, Localhost: true})
	}},
	{"--nodeport-addresses=all,010.000.000.000/8,::ffff:10.2.0.0/112", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.NodePortAddresses.CIDRs, prefixes("0.0.0.0/0", "::/0", "10.0.0.0/8", "10.2.0.0/16"))
	}},
	{"--nodeport-addresses=", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.NodePortAddresses, proxier.NodePortAddresses{})
	}},
	{"--iptables-localhost-nodeports=false", func(_ *options, c *proxier.Config) bool { return c.NodePortAddresses.NotLocalhost }},
	{"--allow-external-ips=203.0.113.0/24,2001:db8::/32", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.AllowExternalIPs, prefixes("203.0.113.0/24", "2001:db8::/32"))
	}},

	{"--preserve-source=auto", func(_ *options, c *proxier.Config) bool {
		return c.ReturnMark == iptables.Mark{Value: 0x40, Mask: 0x40}
	}},
	{"--preserve-source=never", func(_ *options, c *proxier.Config) bool { return c.ReturnMark == iptables.Mark{} }},
	{"--preserve-source=never --mark=0x40", func(_ *options, c *proxier.Config) bool { return c.ReturnMark == iptables.Mark{} }},
	{"--masquerade-all", func(_ *options, c *proxier.Config) bool { return c.ReturnMark == iptables.Mark{} }},
	{"--masquerade-all=false", func(_ *options, c *proxier.Config) bool { return c.ReturnMark != iptables.Mark{} }},
	{"--return-mark=0x4/0x4", func(_ *options, c *proxier.Config) bool { return c.ReturnMark == iptables.Mark{Value: 4, Mask: 4} }},
	{"", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.LocalPods, proxier.LocalPods{Mode: "NodeCIDR"})
	}},
	{"--cluster-cidr=10.244.0.0/16", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.LocalPods, proxier.LocalPods{Mode: "NodeCIDR"})
	}},
	{"--detect-local-mode=ClusterCIDR --cluster-cidr=10.244.0.0/16,fd00::/48", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.LocalPods, proxier.LocalPods{Mode: "ClusterCIDR", ClusterCIDRs: prefixes("10.244.0.0/16", "fd00::/48")})
	}},
	{"--detect-local-mode=BridgeInterface --pod-bridge-interface=cni0", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.LocalPods, proxier.LocalPods{Mode: "BridgeInterface", Interface: "cni0"})
	}},
	{"--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=veth", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.LocalPods, proxier.LocalPods{Mode: "InterfaceNamePrefix", Interface: "veth"})
	}},

	{"--balancer=random", func(_ *options, c *proxier.Config) bool { return c.Service.Balancer == "random" }},
	{"--retries=0", func(_ *options, c *proxier.Config) bool { return c.Service.Retry.Attempts == 1 }},
	{"--connect-timeout=1s --total-connect-timeout=3s", func(_ *options, c *proxier.Config) bool {
		return c.Service.Retry.Timeout == time.Second && c.Service.Retry.Total == 3*time.Second
	}},
	{"--ignore-annotations=proxy-protocol,hedge", func(_ *options, c *proxier.Config) bool {
		return slices.Equal(c.IgnoreAnnotations, []string{"proxy-protocol", "hedge"})
	}},
	{"--half-close-timeout=2m", func(_ *options, c *proxier.Config) bool {
		return c.Service.Relay.HalfClose == 2*time.Minute
	}},
	{"--idle-timeout=5m --max-connection-duration=24h", func(_ *options, c *proxier.Config) bool {
		return c.Service.Relay.Idle == 5*time.Minute && c.Service.Relay.Duration == 24*time.Hour
	}},
	{"--tcp-keepalive=1m,10s,2 --tcp-user-timeout=80s", func(_ *options, c *proxier.Config) bool {
		return c.Service.Relay.Peer == tcp.Liveness{KeepAlive: tcp.KeepAlive{Idle: time.Minute, Interval: 10 * time.Second, Count: 2}, UserTimeout: 80 * time.Second}
	}},
	{"--tcp-keepalive=off", func(_ *options, c *proxier.Config) bool { return c.Service.Relay.Peer == tcp.Liveness{} }},
	{"", func(_ *options, c *proxier.Config) bool {
		return reflect.DeepEqual(c.Service, annotation.Defaults()) && c.MaxConnections == 0
	}},
	{"--balancer=random --retries=1 --connect-timeout=1s --total-connect-timeout=3s", func(_ *options, c *proxier.Config) bool {
		r := c.Service.Retry
		return c.Service.Balancer == "random" && r.Attempts == 2 && r.Timeout == time.Second && r.Total == 3*time.Second
	}},
	{"--retry-on=timeout,reset-early --retry-on=refused", func(_ *options, c *proxier.Config) bool {
		return c.Service.Retry.On == dial.Timeout|dial.ResetEarly|dial.Refused
	}},
	{"--retry-budget=5%", func(_ *options, c *proxier.Config) bool {
		return c.Service.Retry.Budget == dial.Budget{Share: 0.05}
	}},
	{"--hedge=20ms", func(_ *options, c *proxier.Config) bool { return c.Service.Retry.Hedge == 20*time.Millisecond }},
	{"--slow-start=30s", func(_ *options, c *proxier.Config) bool { return c.Service.SlowStart == 30*time.Second }},
	{"--passive-health=off", func(_ *options, c *proxier.Config) bool { return c.Service.Outlier.Passive.Failures == 0 }},
	{"--passive-health=base=1s,max-ejected=10%", func(_ *options, c *proxier.Config) bool {
		return c.Service.Outlier.Passive == outlier.Passive{Failures: 5, Base: time.Second, Max: 5 * time.Minute, MaxEjected: 0.1}
	}},
	{"--max-connections=7", func(_ *options, c *proxier.Config) bool {
		return c.MaxConnections == 7 && c.Service.Limits == limit.Limits{}
	}},
	{"--max-connections-per-service=3 --max-connections-per-endpoint=2 --max-connections-per-client=1", func(_ *options, c *proxier.Config) bool {
		return c.Service.Limits == limit.Limits{Connections: 3, PerEndpoint: 2, PerClient: 1}
	}},
	{"--connection-rate=10/s,50 --on-limit=wait:2s", func(_ *options, c *proxier.Config) bool {
		return c.Service.Limits == limit.Limits{Rate: limit.Rate{PerSecond: 10, Burst: 50}, Wait: 2 * time.Second}
	}},
	{"--endpoint-drain-timeout=0 --on-endpoint-unready=drain", func(_ *options, c *proxier.Config) bool {
		return c.Service.Drain == annotation.Drain{Timeout: 0, Unready: annotation.UnreadyDrain}
	}},
	{"--endpoint-drain-timeout=1m", func(_ *options, c *proxier.Config) bool {
		return c.Service.Drain == annotation.Drain{Timeout: time.Minute, Unready: annotation.UnreadyKeep}
	}},

	{"--min-sync-period=0 --sync-period=1m", func(_ *options, c *proxier.Config) bool { return c.MinSyncPeriod == 0 && c.SyncPeriod == time.Minute }},
	{"--iptables-min-sync-period=2s --iptables-sync-period=2m", func(_ *options, c *proxier.Config) bool {
		return c.MinSyncPeriod == 2*time.Second && c.SyncPeriod == 2*time.Minute
	}},
	{"--drain-timeout=0", func(_ *options, c *proxier.Config) bool { return c.DrainTimeout == 0 }},

	{"--log-level=warning", func(o *options, _ *proxier.Config) bool { return o.seen.logLevel == "warning" }},
	{"-v3", func(o *options, _ *proxier.Config) bool { return o.seen.logLevel == "info" }},
	{"--v=5", func(o *options, _ *proxier.Config) bool { return o.seen.logLevel == "debug" }},
	{"-v 6", func(o *options, _ *proxier.Config) bool { return o.seen.logLevel == "trace" }},
	{"--log-format=json", func(o *options, _ *proxier.Config) bool { return o.seen.logFormat == "json" }},
	{"--logging-format=json", func(o *options, _ *proxier.Config) bool { return o.seen.logFormat == "json" }},
	{"--log-file=/var/log/usher/usher.log --log-file-max-size=7 --log-file-max-files=0", func(o *options, _ *proxier.Config) bool {
		return o.seen.logFile == "/var/log/usher/usher.log" && o.seen.logFileSize == 7 && o.seen.logFiles == 0
	}},
	{"--log-connections=1/100 --log-max-errors=0", func(_ *options, c *proxier.Config) bool { return c.Service.Log == 100 && c.LogErrors == 0 }},
	{"--log-connections=errors", func(_ *options, c *proxier.Config) bool { return c.Service.Log == observe.Errors }},
	{"--log-tcp-info=off", func(_ *options, c *proxier.Config) bool { return c.Service.Relay.TCPInfo == observe.OfNone }},
	{"", func(_ *options, c *proxier.Config) bool {
		return c.Service.Log == observe.All && c.LogErrors == 100 && c.RingSize == 16384
	}},
	{"--metrics-max-series=7", func(_ *options, c *proxier.Config) bool { return c.MaxSeries == 7 }},
	{"--ring-size=1", func(_ *options, c *proxier.Config) bool { return c.RingSize == 1 }},
	{"", func(_ *options, c *proxier.Config) bool {
		return c.HealthzAddress == "0.0.0.0:10256" && c.MetricsAddress == "127.0.0.1:10249"
	}},
	{"--healthz-bind-address= --metrics-bind-address=:9", func(_ *options, c *proxier.Config) bool { return c.HealthzAddress == "" && c.MetricsAddress == ":9" }},
	{"--healthz-bind-address=127.0.0.1 --metrics-bind-address=::", func(_ *options, c *proxier.Config) bool {
		return c.HealthzAddress == "127.0.0.1:10256" && c.MetricsAddress == "[::]:10249"
	}},
	{"--bind-address-hard-fail", func(_ *options, c *proxier.Config) bool { return c.BindHardFail }},
	{"--admin-socket=/run/usher/other.sock", func(_ *options, c *proxier.Config) bool { return c.AdminSocket == "/run/usher/other.sock" }},
	{"--admin-socket=", func(_ *options, c *proxier.Config) bool { return c.AdminSocket == "" && c.Version == version }},
	{"--profiling=true", func(_ *options, c *proxier.Config) bool { return c.Profiling }},

	{"", func(_ *options, c *proxier.Config) bool {
		return c.Service.UDP == udp.Limits{Sessions: 4096, Idle: 30 * time.Second, Stream: 2 * time.Minute} && c.MaxUDPSessions == 0
	}},
	{"--udp-idle-timeout=10s --udp-stream-timeout=1h", func(_ *options, c *proxier.Config) bool {
		return c.Service.UDP.Idle == 10*time.Second && c.Service.UDP.Stream == time.Hour
	}},
	{"--udp-max-sessions=9 --udp-max-sessions-per-service=5", func(_ *options, c *proxier.Config) bool {
		return c.MaxUDPSessions == 9 && c.Service.UDP.Sessions == 5
	}},

	{"", func(o *options, _ *proxier.Config) bool {
		c := o.kernel.conntrack
		c.Min = 0 // which alone means nothing
		return o.kernel.oomScoreAdj == -999 && reflect.ValueOf(c).IsZero()
	}},
	{"--oom-score-adj=0", func(o *options, _ *proxier.Config) bool { return o.kernel.oomScoreAdj == 0 }},
	{"--conntrack-max-per-core=32768", func(o *options, _ *proxier.Config) bool {
		return o.kernel.conntrack.MaxPerCore == 32768 && o.kernel.conntrack.Min == 131072
	}},
	{"--conntrack-min=1", func(o *options, _ *proxier.Config) bool { return o.kernel.conntrack.Min == 1 }},
	{"--conntrack-tcp-timeout-established=24h", func(o *options, _ *proxier.Config) bool { return o.kernel.conntrack.TCPEstablished == 24*time.Hour }},
	{"--conntrack-tcp-timeout-close-wait=1h", func(o *options, _ *proxier.Config) bool { return o.kernel.conntrack.TCPCloseWait == time.Hour }},
	{"--conntrack-tcp-be-liberal", func(o *options, _ *proxier.Config) bool { return o.kernel.conntrack.TCPBeLiberal }},
	{"--conntrack-udp-timeout=30s", func(o *options, _ *proxier.Config) bool { return o.kernel.conntrack.UDP == 30*time.Second }},
	{"--conntrack-udp-timeout-stream=5m", func(o *options, _ *proxier.Config) bool { return o.kernel.conntrack.UDPStream == 5*time.Minute }},

	{"", func(o *options, _ *proxier.Config) bool { return o.running == runningOptions{} }},
	{"--ready-timeout=1m", func(o *options, _ *proxier.Config) bool { return o.running.readyTimeout == time.Minute }},
	{"--take-over", func(o *options, _ *proxier.Config) bool { return o.running.takeOver }},
	{"--keep-privileges", func(o *options, _ *proxier.Config) bool { return o.running.keepPrivileges }},
	{"--leave-rules", func(_ *options, c *proxier.Config) bool { return c.LeaveRules }},

	{"--proxy-mode=nftables", func(_ *options, c *proxier.Config) bool { return c.NodePortAddresses.Primary }},
	{"--proxy-mode=nftables --nodeport-addresses=all", func(_ *options, c *proxier.Config) bool { return !c.NodePortAddresses.Primary }},
	{"--proxy-mode=iptables", func(_ *options, c *proxier.Config) bool { return !c.NodePortAddresses.Primary }},
	{"--proxy-mode=something", func(*options, *proxier.Config) bool { return true }},
}

func TestFlags(t *testing.T) {
	for _, m := range meanings {
		o, cfg := mustConfigure(t, strings.Fields(m.args)...)
		if !m.is(o, &cfg) {
			t.Errorf("usher run %s: not what it means: %+v", m.args, cfg)
		}
	}
}

// A flag that is added has to say above what it means.
func TestEveryFlagIsInTheTable(t *testing.T) {
	seen := map[string]bool{"config": true, "write-config-to": true}
	for _, m := range meanings {
		o, err := parsed(strings.Fields(m.args)...)
		if err != nil {
			t.Fatal(err)
		}
		o.flags.Visit(func(f *pflag.Flag) { seen[f.Name] = true })
	}
	o, _ := parsed()
	o.flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !seen[f.Name] {
			t.Errorf("--%s is in no row", f.Name)
		}
	})
}

// What the documentation of annotations says of flags.
func TestFlagsOfAnnotations(t *testing.T) {
	o, cfg := mustConfigure(t)
	for _, d := range annotation.Docs() {
		if d.Flag == "" {
			continue
		}
		f := o.flags.Lookup(d.Flag)
		if f == nil {
			t.Errorf("annotation %s has the flag --%s, which does not exist", d.Name, d.Flag)
			continue
		}
		// Its default is that of the annotation, in the same words.
		got, value := cfg.Service, strings.Trim(f.DefValue, "[]")
		if err := got.Set(d.Name, value, balancer.Names()); err != nil || !reflect.DeepEqual(got, annotation.Defaults()) {
			t.Errorf("--%s=%s is not the default of annotation %s: %v", d.Flag, value, d.Name, err)
		}
	}
}

func TestFlagsThatCannotBeMeant(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--kube-api-qps=0", "--kube-api-qps=0: want more than 0"},
		{"--kube-api-qps=-2", "--kube-api-qps=-2: want more than 0"},
		{"--kube-api-burst=0", "--kube-api-burst=0: want 1 or more"},
		{"--kube-api-content-type=text/html", "--kube-api-content-type=text/html: want application/"},
		{"--last-state=a/b", "--last-state=a/b: want an absolute path"},
		{"--last-state=..", "--last-state=..: want an absolute path"},
		{"--last-state=/a/", "--last-state=/a/: want an absolute path"},
		{"--last-state-max-age=-1s", "--last-state-max-age=-1s: want a time"},
		{"--manifests=a --last-state=/b", "--last-state is for an API server"},
		{"--manifests=a --kubeconfig=b", "--manifests takes the place of an API server"},
		{"--manifests=a --master=b", "--manifests takes the place of an API server"},
		{"--service-proxy-name=a/b", "--service-proxy-name=a/b: no Service can have this label"},
		{"--node-ip=node-1", "--node-ip=node-1: want IP addresses"},
		{"--node-ip=224.0.0.1", "--node-ip=224.0.0.1: want IP addresses"},
		{"--bind-address=10.0.0.0/8", "--bind-address=10.0.0.0/8: want IP addresses"},
		{"--capture=nftables", "--capture=nftables: want auto, iptables or bind"},
		{"--capture=bind --mark=0x1", "--mark is about redirected connections: --capture=bind has none"},
		{"--capture=bind --return-mark=0x1", "--return-mark is about redirected connections"},
		{"--capture=bind --proxy-port-range=1-2", "--proxy-port-range is about redirected connections"},
		{"--capture=iptables --announce-vips", "--announce-vips is about bound addresses"},
		{"--proxy-port-range=2-1", "--proxy-port-range: port range"},
		{"--mark=0", "--mark=0: want VALUE"},
		{"--mark=0x3/0x1", "--mark=0x3/0x1: want VALUE"},
		{"--nodeport-addresses=primary,eth0", "--nodeport-addresses=eth0: want CIDRs, primary, localhost or all"},
		{"--nodeport-addresses=10.0.0.1", "--nodeport-addresses=10.0.0.1: want CIDRs"},
		{"--nodeport-addresses=localhost --iptables-localhost-nodeports=false", "--nodeport-addresses=localhost: --iptables-localhost-nodeports=false contradicts it"},
		{"--allow-external-ips=primary", "--allow-external-ips=primary: want CIDRs"},
		{"--preserve-source=always", "--preserve-source=always: want auto or never"},
		{"--preserve-source=never --return-mark=0x4", "--return-mark is about clients' addresses: --preserve-source=never keeps none"},
		{"--masquerade-all --return-mark=0x4", "--return-mark is about clients' addresses"},
		{"--masquerade-all=maybe", "want true or false"},
		{"--return-mark=x", "--return-mark=x: want VALUE"},
		{"--return-mark=0x20/0x30", "--return-mark=0x20/0x30: it shares bits with --mark=0x20/0x20"},
		{"--mark=0x40", "--return-mark=0x40/0x40: it shares bits with --mark=0x40"},
		{"--detect-local-mode=nodecidr", "--detect-local-mode=nodecidr: want NodeCIDR,"},
		{"--detect-local-mode=ClusterCIDR", "--detect-local-mode=ClusterCIDR: it needs --cluster-cidr"},
		{"--detect-local-mode=BridgeInterface", "--detect-local-mode=BridgeInterface: it needs --pod-bridge-interface"},
		{"--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=eni+", "--pod-interface-name-prefix=eni+: it is not the name of a network interface, nor how such names begin"},
		{"--detect-local-mode=BridgeInterface --pod-bridge-interface=a-name-too-long-for-one", "--pod-bridge-interface=a-name-too-long-for-one: it is not the name"},
		{"--detect-local-mode=InterfaceNamePrefix", "--detect-local-mode=InterfaceNamePrefix: it needs --pod-interface-name-prefix"},
		{"--cluster-cidr=10.244.0.0", "--cluster-cidr=10.244.0.0: want CIDRs"},
		{"--ignore-annotations=magic", "there is no annotation usher-proxy.io/magic"},
		{"--balancer=magic", "--balancer=magic: want one of round-robin"},
		{"--retries=9", "--retries=9: want 0 to 8"},
		{"--connect-timeout=1ms", "--connect-timeout=1ms: want 50ms to 1m0s"},
		{"--total-connect-timeout=1s", "--total-connect-timeout=1s: want 2s to 10m0s"},
		{"--half-close-timeout=0", "--half-close-timeout=0s: want 1s to 24h0m0s"},
		{"--idle-timeout=0", "--idle-timeout=0: want off, or a duration from 1s to 24h"},
		{"--max-connection-duration=1ms", "--max-connection-duration=1ms: want off, or a duration from 1s to 720h"},
		{"--tcp-keepalive=1", "--tcp-keepalive=1: want off, or IDLE[,INTERVAL[,COUNT]]"},
		{"--tcp-user-timeout=0", "--tcp-user-timeout=0: want off, or a duration from 1s to 1h"},
		{"--slow-start=1ms", "--slow-start=1ms: want off, or a duration from 1s to 1h"},
		{"--passive-health=maybe", "--passive-health=maybe: want off, on, or a list of consecutive-failures=N,"},
		{"--retry-on=refused,never", "--retry-on=refused,never: want a list of refused, unreachable, timeout or reset-early"},
		{"--retry-on=", "--retry-on=: want a value"},
		{"--retry-budget=20", "--retry-budget=20: want P%,N/s with P from 0 to 1000"},
		{"--hedge=0", "--hedge=0: want off, or a duration from 5ms to 10s"},
		{"--hedge=0 --slow-start=0", "--slow-start=0: want off"}, // all are told
		{"--max-connections=-1", "--max-connections=-1: want 0 to 1000000"},
		{"--max-connections-per-service=-1", "--max-connections-per-service=-1: want 0 to 1000000"},
		{"--max-connections-per-endpoint=1000001", "--max-connections-per-endpoint=1000001: want 0 to 1000000"},
		{"--max-connections-per-client=-1", "--max-connections-per-client=-1: want 0 to 1000000"},
		{"--connection-rate=10", "--connection-rate=10: want off, or N/s or N/s,BURST"},
		{"--on-limit=wait", "--on-limit=wait: want reset, or wait:DURATION"},
		{"--endpoint-drain-timeout=-1s", "--endpoint-drain-timeout=-1s: want off, or a duration from 0s to 1h"},
		{"--on-endpoint-unready=close", "--on-endpoint-unready=close: want keep, drain or reset"},
		{"--sync-period=0", "--sync-period=0s: want 1s to 1h0m0s"},
		{"--iptables-sync-period=0", "--iptables-sync-period=0s: want 1s to 1h0m0s"},
		{"--min-sync-period=31s", "--min-sync-period=31s: want 0s to 30s"},
		{"--drain-timeout=-1s", "--drain-timeout=-1s: want 0s to 24h0m0s"},
		{"--log-level=loud", "--log-level=loud: want error,"},
		{"-v=x", "want a number"},
		{"--log-format=xml", "--log-format=xml: want text or json"},
		{"--log-file-max-size=-1", "--log-file-max-size=-1: want 0 to"},
		{"--log-file-max-files=1001", "--log-file-max-files=1001: want 0 to 1000"},
		{"--log-connections=100", "--log-connections=100: want all, errors, off, or 1/N"},
		{"--log-connections=1/0", "--log-connections=1/0: want all, errors, off, or 1/N"},
		{"--log-tcp-info=some", "--log-tcp-info=some: want errors, all or off"},
		{"--log-max-errors=-1", "--log-max-errors=-1: want 0 to"},
		{"--metrics-max-series=-1", "--metrics-max-series=-1: want 0 to 1000000000"},
		{"--ring-size=0", "--ring-size=0: want 1 to 1048576"},
		{"--logging-format=xml", "--logging-format=xml: want text or json"},
		{"--admin-socket=usher.sock", "--admin-socket=usher.sock: want an absolute path"},
		{"--healthz-bind-address=x", "--healthz-bind-address=x: want ADDRESS:PORT"},
		{"--healthz-bind-address=x:1", `"x" is not an IP address`},
		{"--metrics-bind-address=:99999", `"99999" is not a port number`},
		{"--oom-score-adj=-1001", "--oom-score-adj=-1001: want -1000 to 1000"},
		{"--oom-score-adj=1001", "--oom-score-adj=1001: want -1000 to 1000"},
		{"--conntrack-max-per-core=-1", "--conntrack-max-per-core=-1: want 0 to"},
		{"--conntrack-min=-1", "--conntrack-min=-1: want 0 to"},
		{"--conntrack-tcp-timeout-established=-1s", "--conntrack-tcp-timeout-established=-1s: want whole seconds"},
		{"--conntrack-tcp-timeout-close-wait=500ms", "--conntrack-tcp-timeout-close-wait=500ms: want whole seconds"},
		{"--conntrack-udp-timeout=1ns", "--conntrack-udp-timeout=1ns: want whole seconds"},
		{"--conntrack-udp-timeout-stream=1000000h", "--conntrack-udp-timeout-stream=1000000h0m0s: want whole seconds"},
		{"--cleanup", "usher cleanup"},
		{"--init-only=true", "usher run needs its rights as long as it runs"},
		{"--healthz-port=1", "use --healthz-bind-address"},
		{"--metrics-port=1", "use --metrics-bind-address"},
		{"--retries=9 --capture=x", "--capture=x: want auto"}, // all are told
		{"--capture=x --retries=9", "--retries=9: want 0 to 8"},
	} {
		_, _, err := configured(strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("usher run %s: want an error with %q, got %v", c.args, c.want, err)
		}
	}
}

// someValue is accepted by the flag.
func someValue(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true"
	case "duration":
		return "20s"
	case "number":
		return "4"
	}
	switch f.Name {
	case "log-format", "logging-format":
		return "json"
	case "log-level":
		return "debug"
	case "preserve-source":
		return "never"
	case "bind-address", "node-ip":
		return "10.0.0.1"
	}
	return "x"
}

func TestTwoNamesOfOneFlag(t *testing.T) {
	o, _ := parsed()
	count := 0
	o.flags.VisitAll(func(f *pflag.Flag) {
		if canonical(f) == f.Name {
			return
		}
		count++
		original := o.flags.Lookup(canonical(f))
		args := []string{"--" + f.Name + "=" + someValue(f), "--" + original.Name + "=" + someValue(original)}
		_, _, err := configured(args...)
		for _, want := range []string{"--" + f.Name, "--" + original.Name, "are the same: give one of them"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("usher run %s: want an error with %q, got %v", strings.Join(args, " "), want, err)
			}
		}
		mustConfigure(t, args[0])
		mustConfigure(t, args[1])
	})
	if count < 7 {
		t.Errorf("only %d flags have another name", count)
	}
}

func TestWhatIsToldOfSettings(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", nil},
		{"--cluster-cidr=10.244.0.0/16", []string{"--cluster-cidr is not used: pods of this node are found by --detect-local-mode=NodeCIDR"}},
		{"--detect-local-mode=ClusterCIDR --cluster-cidr=10.244.0.0/16", nil},
		{"--pod-bridge-interface=a --pod-interface-name-prefix=b", []string{
			"--pod-bridge-interface is not used: pods of this node are found by --detect-local-mode=NodeCIDR",
			"--pod-interface-name-prefix is not used: pods of this node are found by --detect-local-mode=NodeCIDR",
		}},
		{"--proxy-mode=ipvs --ipvs-scheduler=rr --ipvs-strict-arp --feature-gates=A=true", []string{
			"these settings of kube-proxy have no meaning here: --feature-gates, --ipvs-scheduler, --ipvs-strict-arp, --proxy-mode=ipvs",
		}},
	} {
		o, _ := mustConfigure(t, strings.Fields(c.args)...)
		if got := told(o); !reflect.DeepEqual(got, c.want) {
			t.Errorf("usher run %s: told %q, want %q", c.args, got, c.want)
		}
	}
}

func TestMeaninglessFlagsOfKubeProxyStartUsher(t *testing.T) {
	var args []string
	for _, m := range meaningless {
		if m.isBool {
			args = append(args, "--"+m.name)
		} else {
			args = append(args, "--"+m.name, "some value")
		}
	}
	o, _ := mustConfigure(t, args...)
	lines := told(o)
	if len(lines) != 1 {
		t.Fatalf("want one line, got %q", lines)
	}
	for _, m := range meaningless {
		if !strings.Contains(lines[0], "--"+m.name) {
			t.Errorf("%s is not named", m.name)
		}
	}
}

func TestHelp(t *testing.T) {
	cmd := newRun(nil)
	var help strings.Builder
	cmd.SetOut(&help)
	cmd.SetErr(io.Discard)
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"lowerCamelCase", "any flag on the command line wins over the file", // precedence
		"with --service-proxy-name 0.0.0.0:10356", "with --service-proxy-name 127.0.0.1:10349",
		"--hostname-override string", "the same as --node-name",
	} {
		if !strings.Contains(strings.Join(strings.Fields(help.String()), " "), want) {
			t.Errorf("the help does not say %q", want)
		}
	}
	for _, m := range meaningless {
		if strings.Contains(help.String(), "--"+m.name+" ") {
			t.Errorf("the help shows --%s", m.name)
		}
	}
}

// A unit of systemd says where a file is kept, and that is not known before it runs.
func TestLastStateInTheStateDirectory(t *testing.T) {
	o, _ := mustConfigure(t, "--last-state=kept")
	t.Setenv("STATE_DIRECTORY", "")
	if file, err := o.source.lastStateFile(); !isUsage(err) || !strings.Contains(err.Error(), "StateDirectory=") {
		t.Errorf("without one it is %q, %v", file, err)
	}
	t.Setenv("STATE_DIRECTORY", "/var/lib/usher:/var/lib/other")
	if file, err := o.source.lastStateFile(); err != nil || file != "/var/lib/usher/kept" {
		t.Errorf("it is %q, %v", file, err)
	}
}

func TestConfigIsAUsageError(t *testing.T) {
	for _, args := range [][]string{
		{"run", "--retries=9"},
		{"run", "--config=/nowhere/usher.yaml"},
		{"run", "--no-such-flag"},
		{"run", "--cleanup"},
	} {
		if code := run(args, nil); code != exitUsage {
			t.Errorf("usher %s: exit code %d, want %d", strings.Join(args, " "), code, exitUsage)
		}
	}
}
