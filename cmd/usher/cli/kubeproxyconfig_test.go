package cli

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/proxier"
)

const kubeProxyHeader = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

// The command of the DaemonSet that kubeadm makes, with the file that it makes.
func TestKubeadm(t *testing.T) {
	o, cfg := mustConfigure(t, "--config=testdata/kubeadm.yaml", "--hostname-override=Worker-1")
	_, plain := mustConfigure(t, "--node-name=worker-1")
	if !reflect.DeepEqual(cfg, plain) {
		t.Errorf("what kubeadm leaves open is not usher's default:\n%+v\n%+v", cfg, plain)
	}
	if o.source.kubeconfig != "/var/lib/kube-proxy/kubeconfig.conf" {
		t.Errorf("kubeconfig is %q", o.source.kubeconfig)
	}
	if o.kernel.conntrack.MaxPerCore != 0 || o.kernel.conntrack.TCPEstablished != 0 {
		t.Errorf("conntrack was not left alone: %+v", o.kernel.conntrack)
	}
	want := []string{"testdata/kubeadm.yaml:10: clusterCIDR is not used: pods of this node are found by --detect-local-mode=NodeCIDR"}
	if got := told(o); !reflect.DeepEqual(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestKubeProxyConfiguration(t *testing.T) {
	file := inFile(t, kubeProxyHeader+`
bindAddress: 10.0.0.7
bindAddressHardFail: true
clientConnection: {kubeconfig: /k, qps: 50, burst: 100, contentType: application/json}
clusterCIDR: 10.244.0.0/16,fd00::/48
conntrack: {maxPerCore: 1000, min: 0, tcpBeLiberal: true, tcpEstablishedTimeout: 2h, tcpCloseWaitTimeout: 0s, udpTimeout: 30s, udpStreamTimeout: 1m}
detectLocalMode: ClusterCIDR
enableProfiling: true
healthzBindAddress: 10.0.0.7
hostnameOverride: "f"
iptables: {masqueradeAll: true, localhostNodePorts: false, syncPeriod: 1m, minSyncPeriod: 2s}
logging: {format: json, verbosity: 5}
metricsBindAddress: 127.0.0.1:9
mode: iptables
nodePortAddresses: [10.0.0.0/8]
oomScoreAdj: 0
`)
	o, cfg := mustConfigure(t, "--config="+file)
	if cfg.NodeName != "f" || cfg.NodeIPs[0].String() != "10.0.0.7" || !cfg.BindHardFail || !cfg.Profiling ||
		!reflect.DeepEqual(cfg.LocalPods, proxier.LocalPods{Mode: "ClusterCIDR", ClusterCIDRs: prefixes("10.244.0.0/16", "fd00::/48")}) ||
		cfg.HealthzAddress != "10.0.0.7:10256" || cfg.MetricsAddress != "127.0.0.1:9" ||
		cfg.ReturnMark.Value != 0 || cfg.SyncPeriod != time.Minute || cfg.MinSyncPeriod != 2*time.Second ||
		!reflect.DeepEqual(cfg.NodePortAddresses, proxier.NodePortAddresses{CIDRs: prefixes("10.0.0.0/8"), NotLocalhost: true}) {
		t.Errorf("the file means something else: %+v", cfg)
	}
	s, k := o.source, o.kernel
	if s.kubeconfig != "/k" || s.qps != 50 || s.burst != 100 || s.contentType != "application/json" ||
		k.oomScoreAdj != 0 || o.seen.logFormat != "json" || o.seen.logLevel != "debug" {
		t.Errorf("the file means something else: %+v %+v %+v", s, k, o.seen)
	}
	if c := k.conntrack; c.MaxPerCore != 1000 || c.Min != 0 || !c.TCPBeLiberal || c.TCPEstablished != 2*time.Hour ||
		c.TCPCloseWait != 0 || c.UDP != 30*time.Second || c.UDPStream != time.Minute {
		t.Errorf("the file means something else: %+v", c)
	}
	if got := told(o); len(got) != 1 || !strings.HasSuffix(got[0], "no meaning here: "+file+":16: mode=iptables") {
		t.Errorf("told %q", got)
	}
}

// Each mode of kube-proxy has periods of its own.
func TestKubeProxyModes(t *testing.T) {
	sections := "iptables: {syncPeriod: 11s}\nipvs: {syncPeriod: 12s}\nnftables: {syncPeriod: 13s, masqueradeAll: true}\n"
	for mode, c := range map[string]struct {
		period  time.Duration
		primary bool
		without string
	}{
		"":            {11 * time.Second, false, "ipvs.syncPeriod, nftables.syncPeriod, nftables.masqueradeAll"},
		"iptables":    {11 * time.Second, false, "ipvs.syncPeriod, nftables.syncPeriod, nftables.masqueradeAll, FILE:3: mode=iptables"},
		"ipvs":        {12 * time.Second, false, "iptables.syncPeriod, nftables.syncPeriod, nftables.masqueradeAll, FILE:3: mode=ipvs"},
		"nftables":    {13 * time.Second, true, "iptables.syncPeriod, ipvs.syncPeriod, FILE:3: mode=nftables"},
		"userspace":   {11 * time.Second, false, "ipvs.syncPeriod, nftables.syncPeriod, nftables.masqueradeAll"},
		"kernelspace": {11 * time.Second, false, "ipvs.syncPeriod, nftables.syncPeriod, nftables.masqueradeAll, FILE:3: mode=kernelspace"},
	} {
		file := inFile(t, kubeProxyHeader+"mode: "+mode+"\n"+sections)
		o, cfg := mustConfigure(t, "--config="+file)
		if cfg.SyncPeriod != c.period || cfg.NodePortAddresses.Primary != c.primary || (cfg.ReturnMark.Value == 0) != (mode == "nftables") {
			t.Errorf("mode %q: %+v", mode, cfg)
		}
		want := "these settings of kube-proxy have no meaning here: " + strings.ReplaceAll(c.without, "FILE", file)
		if got := told(o); got[0] != want {
			t.Errorf("mode %q: told\n%s\nwant\n%s", mode, got[0], want)
		}
	}
}

func TestKubeProxyConfigurationWithWhatUsherDoesNotKnow(t *testing.T) {
	file := inFile(t, kubeProxyHeader+`featureGates: {A: true}
udpIdleTimeout: 250ms
hostnameOverride: a
winkernel: {networkName: x}
logging: {vmodule: [{filePattern: a, verbosity: 1}]}
`)
	o, cfg := mustConfigure(t, "--config="+file)
	if cfg.NodeName != "a" {
		t.Error("what is known was not read")
	}
	got := told(o)
	if len(got) != 2 || got[0] != "these settings of kube-proxy have no meaning here: featureGates.A, winkernel.networkName, logging.vmodule" ||
		!strings.Contains(got[1], file+":4: udpIdleTimeout: unknown field") {
		t.Errorf("told %q", got)
	}
}

func TestKubeProxyConfigurationsThatCannotBeMeant(t *testing.T) {
	for content, want := range map[string]string{
		"conntrack: {maxPerCore: many}":          "FILE:3: conntrack.maxPerCore: want a whole number",
		"conntrack: 7":                           "FILE:3: conntrack: want keys with values",
		"iptables: {syncPeriod: soon}":           "FILE:3: iptables.syncPeriod: want a duration, as in 30s",
		"oomScoreAdj: 5000":                      "FILE:3: oomScoreAdj=5000: want -1000 to 1000",
		"conntrack:\n  maxPerCore: 1\n  min: -1": "FILE:5: conntrack.min=-1: want 0 to",
		"clusterCIDR: pods\n":                    "FILE:3: clusterCIDR=pods: want CIDRs",
		"nodePortAddresses: [eth0]":              "FILE:3: nodePortAddresses=eth0: want CIDRs",
		"detectLocalMode: BridgeInterface":       "FILE:3: detectLocalMode=BridgeInterface: it needs --pod-bridge-interface",
		"detectLocalMode: Guess":                 "FILE:3: detectLocalMode=Guess: want NodeCIDR",
		"logging: {format: xml}":                 "FILE:3: logging.format=xml: want text or json",
		"iptables:\n  syncPeriod: 2h":            "FILE:4: iptables.syncPeriod=2h0m0s: want 1s to 1h0m0s",
		"nodePortAddresses: [localhost]\niptables: {localhostNodePorts: false}": "FILE:3: nodePortAddresses=localhost: FILE:4: iptables.localhostNodePorts=false contradicts it",
	} {
		file := inFile(t, kubeProxyHeader+content)
		_, _, err := configured("--config=" + file)
		want := strings.ReplaceAll(want, "FILE", file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with\n  %s\ngot\n  %v", content, want, err)
		}
	}
}

// kube-proxy starts with this, so usher does.
func TestClusterCIDRModeWithoutACIDR(t *testing.T) {
	file := inFile(t, kubeProxyHeader+"detectLocalMode: ClusterCIDR\n")
	o, cfg := mustConfigure(t, "--config="+file)
	if cfg.LocalPods.Mode != "NodeCIDR" || len(told(o)) != 1 {
		t.Errorf("mode %s, told %q", cfg.LocalPods.Mode, told(o))
	}
	_, cfg = mustConfigure(t, "--config="+file, "--cluster-cidr=10.244.0.0/16")
	if cfg.LocalPods.Mode != "ClusterCIDR" {
		t.Errorf("mode %s, though the command line has the CIDR", cfg.LocalPods.Mode)
	}
}

// A typing error in the table would be a field that is silently not read.
func TestKubeProxyFieldsExist(t *testing.T) {
	zero := &v1alpha1.KubeProxyConfiguration{}
	zero.Logging.Format = "text" // omitempty
	text, err := sigsyaml.Marshal(zero)
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	collectFields(t, text, exists)
	o, _ := parsed()
	for name, meaning := range kubeProxyFields {
		if field := strings.Replace(name, "mode.", "iptables.", 1); !exists[field] {
			t.Errorf("KubeProxyConfiguration has no field %s", field)
		}
		if o.flags.Lookup(meaning.flag) == nil {
			t.Errorf("%s: there is no flag --%s", name, meaning.flag)
		}
	}
}

// collectFields notes the paths of all fields, those without a value included.
func collectFields(t *testing.T, text []byte, into map[string]bool) {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		for k, v := range pairs(n) {
			into[prefix+k.Value] = true
			if v.Kind == yaml.MappingNode {
				walk(prefix+k.Value+".", v)
			}
		}
	}
	walk("", root.Content[0])
}

func TestConfigz(t *testing.T) {
	o, cfg := mustConfigure(t, "--node-name=a", "--nodeport-addresses=primary", "--masquerade-all", "--oom-score-adj=1",
		"--conntrack-max-per-core=5", "--cluster-cidr=10.0.0.0/8", "--sync-period=40s", "--kubeconfig=/k")
	text, err := json.Marshal(o.configz(&cfg))
	if err != nil {
		t.Fatal(err)
	}
	var shown struct {
		KubeProxy v1alpha1.KubeProxyConfiguration `json:"kubeproxy.config.k8s.io"`
		Usher     map[string]any                  `json:"usher-proxy.io"`
	}
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	k := shown.KubeProxy
	if k.Kind != "KubeProxyConfiguration" || k.APIVersion != "kubeproxy.config.k8s.io/v1alpha1" || k.Mode != "userspace" ||
		k.HostnameOverride != "a" || k.BindAddress != "0.0.0.0" || k.HealthzBindAddress != "0.0.0.0:10256" ||
		!slices.Equal(k.NodePortAddresses, []string{"primary"}) || !k.IPTables.MasqueradeAll ||
		k.IPTables.SyncPeriod != (metav1.Duration{Duration: 40 * time.Second}) || ptr.Deref(k.OOMScoreAdj, 0) != 1 ||
		ptr.Deref(k.Conntrack.MaxPerCore, 0) != 5 || k.ClusterCIDR != "10.0.0.0/8" || k.DetectLocalMode != "NodeCIDR" ||
		k.ClientConnection.Kubeconfig != "/k" || k.ClientConnection.QPS != 20 {
		t.Errorf("kube-proxy's view: %+v", k)
	}
	if shown.Usher["kind"] != "UsherConfiguration" || shown.Usher["preserveSource"] != "never" || shown.Usher["retries"] != 3.0 {
		t.Errorf("usher's view: %v", shown.Usher)
	}
	keys := o.keys()
	for key := range maps.Keys(keys) {
		if _, ok := shown.Usher[key]; !ok {
			t.Errorf("usher's view lacks %s", key)
		}
	}
}

// What /configz shows in kube-proxy's words means the same when it is read.
func TestConfigzCanBeReadAsAFile(t *testing.T) {
	o, cfg := mustConfigure(t, "--node-name=a", "--nodeport-addresses=primary,10.0.0.0/8", "--masquerade-all", "--sync-period=40s",
		"--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0", "--node-ip=10.0.0.1", "--profiling", "--min-sync-period=1s",
		"--iptables-localhost-nodeports=false", "--bind-address-hard-fail", "--metrics-bind-address=0.0.0.0:9")
	text, err := sigsyaml.Marshal(o.asKubeProxy(cfg.NodeName))
	if err != nil {
		t.Fatal(err)
	}
	o2, cfg2 := mustConfigure(t, "--config="+inFile(t, string(text)))
	if !reflect.DeepEqual(cfg, cfg2) || !reflect.DeepEqual(o.kernel, o2.kernel) || !reflect.DeepEqual(o.source, o2.source) {
		t.Errorf("read back, it is\n%+v\nnot\n%+v", cfg2, cfg)
	}
	if got := told(o2); len(got) > 0 {
		t.Errorf("told %q", got)
	}
}

func TestKubeadmFixtureIsWhatKubeadmWrites(t *testing.T) {
	text, err := os.ReadFile("testdata/kubeadm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var typed v1alpha1.KubeProxyConfiguration
	if err := sigsyaml.UnmarshalStrict(text, &typed); err != nil {
		t.Fatal(err)
	}
	again, err := sigsyaml.Marshal(&typed)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(text) {
		t.Errorf("kubeadm, which marshals the type, writes\n%s", again)
	}
}
