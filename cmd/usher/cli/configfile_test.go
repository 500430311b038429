package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/dial"
)

const header = "apiVersion: usher-proxy.io/v1alpha1\nkind: UsherConfiguration\n"

func TestUsherConfiguration(t *testing.T) {
	file := inFile(t, `---
# with comments
apiVersion: usher-proxy.io/v1alpha1
kind: UsherConfiguration
nodeName: Node-7
retries: 2
connectTimeout: 1s
nodeportAddresses: [10.0.0.0/8, primary]
allowExternalIps:
- 203.0.113.0/24
clusterCidr: 10.244.0.0/16,fd00::/48
detectLocalMode: ClusterCIDR
retryOn: [refused, timeout]
retryBudget: 10%,5/s
hedge: off
passiveHealth: off
onLimit: wait:1s
endpointDrainTimeout: 0
maxConnectionsPerService: 7
profiling: true
kubeApiQps: 2.5
mark: 0x4
healthzBindAddress: ""
---
`)
	o, cfg := mustConfigure(t, "--config="+file)
	want := proxier.NodePortAddresses{CIDRs: prefixes("10.0.0.0/8"), Primary: true}
	service := annotation.Defaults()
	service.Retry = dial.Retry{
		Attempts: 3, Timeout: time.Second, Total: 10 * time.Second, On: dial.Refused | dial.Timeout,
		Budget: dial.Budget{Share: 0.1, PerSecond: 5},
	}
	service.Outlier.Passive.Failures, service.Limits.Wait, service.Limits.Connections, service.Drain.Timeout = 0, time.Second, 7, 0
	if cfg.NodeName != "node-7" || cfg.Service.Retry.Attempts != 3 || cfg.Service.Retry.Timeout != time.Second ||
		!reflect.DeepEqual(cfg.NodePortAddresses, want) ||
		!reflect.DeepEqual(cfg.AllowExternalIPs, prefixes("203.0.113.0/24")) ||
		!reflect.DeepEqual(cfg.LocalPods.ClusterCIDRs, prefixes("10.244.0.0/16", "fd00::/48")) ||
		!reflect.DeepEqual(cfg.Service, service) || !cfg.Profiling || o.source.qps != 2.5 || cfg.Mark.Value != 4 || cfg.HealthzAddress != "" || cfg.MetricsAddress == "" {
		t.Errorf("the file means something else: %+v", cfg)
	}
}

// What is written can be read, and says the same.
func TestRoundTrip(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"--capture=bind", "--manifests=a", "--manifests=b: #c", "--log-format=json", "-v=5"},
		{"--node-ip=::,10.0.0.1", "--nodeport-addresses=localhost,10.0.0.0/8", "--masquerade-all", "--healthz-bind-address="},
		{"--retry-on=refused", "--retry-budget=5/s", "--hedge=5ms", "--slow-start=1h", "--passive-health=max-ejected=12.5%"},
		{"--idle-timeout=1h", "--max-connection-duration=24h", "--tcp-keepalive=20s,5s", "--tcp-user-timeout=30s"},
		{"--passive-health=off", "--max-connections=9", "--max-connections-per-client=1", "--connection-rate=0.5/s,2", "--on-limit=wait:1s", "--endpoint-drain-timeout=0", "--on-endpoint-unready=reset"},
		{"--service-proxy-name=usher", "--kube-api-qps=0.3", "--oom-score-adj=0", "--conntrack-tcp-be-liberal", "--hostname-override=yes"},
		{"--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=0x1", "--proxy-mode=nftables", "--sync-period=90s"},
	} {
		o, cfg := mustConfigure(t, args...)
		file := filepath.Join(t.TempDir(), "usher.yaml")
		if err := o.writeTo(file, nil); err != nil {
			t.Fatal(err)
		}
		o2, cfg2 := mustConfigure(t, "--config="+file)
		if !reflect.DeepEqual(cfg, cfg2) {
			t.Errorf("usher run %s: read back, it means %+v, not %+v", strings.Join(args, " "), cfg2, cfg)
		}
		first, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		second, err := o2.yaml()
		if err != nil {
			t.Fatal(err)
		}
		if string(first) != second {
			t.Errorf("usher run %s: written again, it is\n%s\nnot\n%s", strings.Join(args, " "), second, first)
		}
		if notes := told(o2); len(args) == 0 && len(notes) > 0 {
			t.Errorf("the written file gives reason to tell %q", notes)
		}
	}
}

func TestWriteConfigTo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usher.yaml")
	if code := run([]string{"run", "--retries=5", "--write-config-to=" + file}, nil); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{header, "\n# Which endpoint, and what if it fails\n", "\nretries: 5\n", "\nnodeportAddresses: []\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the file lacks %q:\n%s", want, text)
		}
	}
	for _, no := range []string{"config:", "writeConfigTo", "hostnameOverride", "proxyMode"} {
		if strings.Contains(string(text), "\n"+no) {
			t.Errorf("%s has no place in the file", no)
		}
	}
	if code := run([]string{"run", "--write-config-to=" + filepath.Dir(file)}, nil); code != exitFailed {
		t.Errorf("writing to a folder: exit code %d, want %d", code, exitFailed)
	}
}

func TestConfigurationFilesThatCannotBeMeant(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"unknown key":              {header + "retrys: 3\n", `FILE:3: unknown key "retrys": do you mean retries?`},
		"unknown key, other case":  {header + "\nclusterCIDR: 10.0.0.0/8\n", `FILE:4: unknown key "clusterCIDR": do you mean clusterCidr?`},
		"another name":             {header + "hostnameOverride: a\n", `FILE:3: unknown key "hostnameOverride": do you mean nodeName?`},
		"nothing like it":          {header + "zzzzzzzzzzzzzz: a\n", `FILE:3: unknown key "zzzzzzzzzzzzzz"`},
		"hidden flag":              {header + "proxyMode: ipvs\n", `FILE:3: unknown key "proxyMode"`},
		"about the file":           {header + "config: a\n", `FILE:3: unknown key "config"`},
		"help":                     {header + "help: true\n", `FILE:3: unknown key "help"`},
		"tab":                      {header + "nodeName: a\nretryOn:\n\t- refused\n", "FILE:5: a tab is no indentation: use spaces"},
		"tab at the begin":         {header + "\tretries: 1\n", "FILE:3: a tab is no indentation: use spaces"},
		"CRLF":                     {"apiVersion: usher-proxy.io/v1alpha1\r\nkind: UsherConfiguration\r\nretrys: 3\r\n", `FILE:3: unknown key "retrys"`},
		"BOM":                      {"\ufeff" + header + "retrys: 3\n", `FILE:3: unknown key "retrys"`},
		"UTF-16":                   {"\xff\xfea\x00", "FILE:1: this is UTF-16: save it as UTF-8"},
		"no text":                  {header + "nodeName: \"\xc3\"\n", "FILE:3: byte 0xc3 is no text: want YAML in UTF-8"},
		"NUL":                      {header + "\x00", "FILE:3: byte 0x00 is no text"},
		"no colon":                 {header + "retries 3\n", "FILE:3: no YAML: could not find expected ':': want KEY: VALUE"},
		"indented":                 {header + "nodeName: a\n  retries: 3\n", "FILE:4: no YAML: mapping values are not allowed in this context: want KEY: VALUE"},
		"open quotes":              {header + "nodeName: 'a\nretries: 3\n", "FILE:3: no YAML: found unexpected end of stream: close the quotes"},
		"at sign":                  {header + "nodeName: @a\n", "FILE:3: no YAML: found character that cannot start any token: put the text in quotes"},
		"deep":                     {header + "a: " + strings.Repeat("[", 20000), "FILE:3: no YAML: exceeded max depth"},
		"tag":                      {header + "nodeName: !!binary YQ==\n", "FILE:3: tags (!!binary) are not supported: leave it out"},
		"merge":                    {header + "<<: {retries: 3}\n", `FILE:3: unknown key "<<"`},
		"negative":                 {header + "maxConnections: -1\n", "FILE:3: maxConnections=-1: want 0 to"},
		"negative duration":        {header + "syncPeriod: -5s\n", "FILE:3: syncPeriod=-5s: want 1s to 1h0m0s"},
		"no whole number":          {header + "retries: 1.5\n", "FILE:3: retries=1.5: want a whole number"},
		"number out of range":      {header + "ringSize: 99999999999999999999\n", "FILE:3: ringSize=99999999999999999999: want a whole number"},
		"longer than another":      {header + "connectTimeout: 20s\n", "FILE:3: connectTimeout=20s: want at most total-connect-timeout, which is 10s"},
		"credentials":              {header + "master: https://me:secret@10.0.0.1\n", "FILE:3: master: want an address without credentials"},
		"two faults":               {header + "a: 1\nretries: 9x\n", "FILE:4: retries=9x: want a whole number"},
		"bad bool":                 {header + "profiling: perhaps\n", "FILE:3: profiling=perhaps: want true or false"},
		"bad duration":             {header + "syncPeriod: 30\n", "FILE:3: syncPeriod=30: want a duration, as in 30s"},
		"out of bounds":            {header + "retries: 9\n", "FILE:3: retries=9: want 0 to 8"},
		"bad list item":            {header + "nodeportAddresses:\n- primary\n- eth0\n", "FILE:3: nodeportAddresses=eth0: want CIDRs"},
		"list for one value":       {header + "retries: [1, 2]\n", "FILE:3: retries=[1, 2]: want one value, not a list"},
		"mapping":                  {header + "retries: {a: 1}\n", "FILE:3: retries: want a value, or a list of values"},
		"list of lists":            {header + "nodeIp: [[a]]\n", "FILE:3: nodeIp: want a value, or a list of values"},
		"no value":                 {header + "nodeName:\n", "FILE:3: nodeName: there is no value; leave the key out"},
		"twice":                    {header + "retries: 1\nretries: 2\n", "FILE:4: retries: given before, in line 3"},
		"alias":                    {header + "nodeName: &a b\nmaster: *a\n", "FILE:4: aliases (*name) are not supported"},
		"no mapping":               {"- a\n", "FILE:1: want keys with values"},
		"empty":                    {"# nothing\n", "FILE: it is empty: want apiVersion: usher-proxy.io/v1alpha1, kind: UsherConfiguration, and settings"},
		"no YAML":                  {header + "a: [\n", "FILE:3: no YAML: did not find expected node content: see that brackets"},
		"key is a list":            {header + "[a]: b\n", "FILE:3: want a word as a key"},
		"two documents":            {header + "---\n" + header, "FILE:3: a second document: want one"},
		"wrong kind":               {"apiVersion: v1\nkind: Pod\n", `FILE:1: apiVersion "v1", kind "Pod": want usher-proxy.io/v1alpha1 UsherConfiguration, or kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration`},
		"other version":            {"apiVersion: usher-proxy.io/v1\nkind: UsherConfiguration\n", `FILE:1: apiVersion "usher-proxy.io/v1"`},
		"no kind":                  {"retries: 3\n", `FILE:1: apiVersion "", kind ""`},
		"the ConfigMap around it":  {"apiVersion: v1\nkind: ConfigMap\ndata: {}\n", "FILE:1: this is a ConfigMap: give the file that is in its data"},
		"too large":                {"#" + strings.Repeat(" ", maxConfigBytes), "FILE: is larger than 1 MiB"},
		"manifests and kubeconfig": {header + "manifests: [a]\nkubeconfig: b\n", "FILE:3: manifests takes the place of an API server"},
		"words of annotations":     {header + "hedge: 1ms\nretryOn: [refused, never]\n", "FILE:4: retryOn=refused,never: want a list of refused"},
		"contradiction across":     {header + "capture: bind\nmark: 0x1\npreserveSource: sometimes\n", "FILE:5: preserveSource=sometimes: want auto or never"},
	} {
		file := inFile(t, c.content)
		_, _, err := configured("--config=" + file)
		want := strings.ReplaceAll(c.want, "FILE", file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with\n  %s\ngot\n  %v", name, want, err)
		}
	}
}

func TestConfigurationFileThatCannotBeRead(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe") // of which nobody holds the other end
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/nowhere/usher.yaml": "/nowhere/usher.yaml: no such file or directory",
		t.TempDir():           "is a directory: give the file in it",
		"/dev/zero":           "/dev/zero: is no regular file",
		pipe:                  pipe + ": is no regular file",
	} {
		if _, _, err := configured("--config=" + path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error with %q, got %v", path, want, err)
		}
	}
}

func TestCommandLineWinsOverTheFile(t *testing.T) {
	file := "--config=" + inFile(t, header+`
nodeName: file
retries: 2
logLevel: debug
preserveSource: never
nodeportAddresses: [primary]
syncPeriod: 50s
healthzBindAddress: 0.0.0.0:1
kubeconfig: /k
`)
	o, cfg := mustConfigure(t, file, "--hostname-override=line", "--retries=3", "-v=0", "--masquerade-all=false",
		"--nodeport-addresses=localhost", "--healthz-bind-address=", "--manifests=m")
	if cfg.NodeName != "line" || cfg.Service.Retry.Attempts != 4 || o.seen.logLevel != "info" || cfg.ReturnMark.Value == 0 ||
		!reflect.DeepEqual(cfg.NodePortAddresses, proxier.NodePortAddresses{Localhost: true}) ||
		cfg.HealthzAddress != "" || o.source.kubeconfig != "" {
		t.Errorf("the file won: %+v", cfg)
	}
	if cfg.SyncPeriod != 50*time.Second {
		t.Errorf("--sync-period is %s, though only the file says something of it", cfg.SyncPeriod)
	}

	// Even a value that is bad in the file does no harm then.
	bad := "--config=" + inFile(t, header+"retries: many\n")
	if _, _, err := configured(bad); err == nil {
		t.Error("the file alone was accepted")
	}
	mustConfigure(t, bad, "--retries=1")
}

// Errors call a setting as its user did.
func TestErrorsNameWhereItWasSaid(t *testing.T) {
	file := inFile(t, header+"mark: 0x40\ncapture: bind\n")
	_, _, err := configured("--config=" + file)
	if want := file + ":3: mark=0x40"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want an error with %q, got %v", want, err)
	}
	_, _, err = configured("--config="+file, "--proxy-port-range=1-2")
	if want := "--proxy-port-range is about redirected connections: " + file + ":4: capture=bind has none"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want an error with %q, got %v", want, err)
	}
}

// Whatever is in a file, it is either a configuration or an error.
func FuzzConfigurationFile(f *testing.F) {
	kubeadm, err := os.ReadFile("testdata/kubeadm.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(kubeadm), header + "retries: 1\nnodeIp: [a]\n", header + "? [a]\n: b\n", kubeProxyHeader + "conntrack: {min: 0x1}\n",
		header + "a: &a [*a]\n", header + "\tretries: 1\n", header + "connectTimeout: 20s\n", kubeProxyHeader + "conntrack: {min: [a], a.b: 1}\n", kubeProxyHeader + "mode: a\nmode: b\n", "{\"apiVersion\": 1}", "---\n---\n", "\xff", header + "retries: []\n", kubeProxyHeader + "mode: [a]\n",
	} {
		f.Add(seed)
	}
	file := filepath.Join(f.TempDir(), "usher.yaml")
	f.Fuzz(func(t *testing.T, content string) {
		write(t, file, content)
		_, _, err := configured("--config=" + file)
		if err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("an error that does not name the file: %v", err)
		}
		if found := judged(t, "--config="+file); (errorsIn(found) > 0) != (err != nil) {
			t.Errorf("usher run: %v, usher config validate: %+v", err, found)
		}
	})
}
