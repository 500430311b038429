package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// judged is what is said about a command line of usher run.
func judged(t *testing.T, args ...string) []finding {
	t.Helper()
	o, err := parsed(args...)
	if err != nil {
		t.Fatal(err)
	}
	return o.judge()
}

const manyFaults = header + `retries: -1
syncPeriod: -5s
connectTimeout: 3
healthzBindAddress: 1
balancer: fastest
maxConnections: -1
udpMaxSessions: -1
udpMaxSessionsPerService: 0
oomScoreAdj: 5000
conntrackMin: -1
kubeApiQps: 0
kubeApiBurst: 0
logFormat: xml
ringSize: 0
nodeportAddresses: [eth0]
allowExternalIps: [all]
profiling: yes
profiling: no
cluster_cidr: 10.0.0.0/8
`

func TestAllThatIsWrongIsToldAtOnceInTheOrderOfTheFile(t *testing.T) {
	file := inFile(t, manyFaults)
	var lines []int
	for _, f := range judged(t, "--config="+file) {
		lines = append(lines, f.Line)
		if f.Level != levelError || f.File != file || f.Key == "" || f.Message == "" {
			t.Errorf("%+v", f)
		}
	}
	want := []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21}
	if !slices.Equal(lines, want) {
		t.Errorf("told of the lines %v, want %v: %v", lines, want, judged(t, "--config="+file))
	}
	_, _, err := configured("--config=" + file)
	if got := strings.Count(err.Error(), "\n") + 1; got != len(want) {
		t.Errorf("usher run tells %d: %v", got, err)
	}
}

// What kube-proxy's decoder does not say: the lines, and all of them.
func TestAllThatIsWrongInAKubeProxyConfiguration(t *testing.T) {
	file := inFile(t, kubeProxyHeader+`mode: nftables
conntrack:
  maxPerCore: many
iptables: {syncPeriod: soon}
udpIdleTimeout: 250ms
nodePortAddresses: 7
oomScoreAdj: 5000
enableProfiling: 1
clientConnection: here
clusterCIDR: [a]
featureGates: {A: 1}
nftables: {minSyncPeriod: 31s}
`)
	var got []string
	for _, f := range judged(t, "--config="+file) {
		got = append(got, strings.TrimPrefix(f.String(), file))
	}
	want := []string{
		":3: warning: mode=nftables: serving NodePorts on the primary addresses only, as kube-proxy does then; --nodeport-addresses=all changes that",
		":3: warning: mode=nftables has no meaning here",
		":5: conntrack.maxPerCore: want a whole number",
		":6: iptables.syncPeriod: want a duration, as in 30s",
		":7: warning: udpIdleTimeout: unknown field, which kube-proxy passes over too",
		":8: nodePortAddresses: want a list of texts",
		":9: oomScoreAdj=5000: want -1000 to 1000",
		":10: enableProfiling: want true or false",
		":11: clientConnection: want keys with values",
		":12: clusterCIDR: want a text",
		":13: featureGates.A: want true or false",
		":14: nftables.minSyncPeriod=31s: want 0s to 30s",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSettingsWithoutAnEffect(t *testing.T) {
	for _, c := range []struct {
		file, args string
		want       []string
	}{
		{file: "retries: 3\n"},
		{file: "capture: bind\nmark: 0x1\nreturnMark: 0x2\nproxyPortRange: 11000-29999\n", // the last is the default
			want: []string{":4: mark is not used: capture bind redirects no connections", ":5: returnMark is not used: capture bind redirects no connections"}},
		{file: "capture: iptables\nannounceVips: true\n", want: []string{":4: announceVips is not used: capture iptables binds no addresses"}},
		{file: "preserveSource: never\nreturnMark: 0x2\n", want: []string{":4: returnMark is not used: preserveSource never keeps no client's address"}},
		{file: "manifests: a\nkubeApiQps: 1\n", want: []string{":4: kubeApiQps is not used: with manifests no API server is asked"}},
		{file: "serviceProxyName: a\nwithKubeProxy: true\n", want: []string{":4: withKubeProxy is not used: with serviceProxyName it goes without saying"}},
		{file: "logFileMaxFiles: 9\n", want: []string{":3: logFileMaxFiles is not used: there is no logFile"}},
		{file: "logFileMaxFiles: 9\nlogFile: /l\n"},
		{file: "profiling: true\nmetricsBindAddress: ''\n", want: []string{":3: profiling is not used: metricsBindAddress is empty"}},
		{file: "conntrackMin: 1\n", want: []string{":3: conntrackMin is not used: conntrackMaxPerCore 0 leaves the kernel's limit"}},
		{file: "clusterCidr: 10.0.0.0/8\n", want: []string{":3: clusterCidr is not used: pods of this node are found by --detect-local-mode=NodeCIDR"}},
		{file: "retries: 3\nnodeName: a\nkubeconfig: /k\n", args: "--retries=1 --hostname-override=b --manifests=m", want: []string{
			":3: retries is not used: --retries on the command line wins",
			":4: nodeName is not used: --hostname-override on the command line wins",
			":5: kubeconfig is not used: --manifests on the command line wins"}},
	} {
		file := inFile(t, header+c.file)
		var got []string
		for _, f := range judged(t, append(strings.Fields(c.args), "--config="+file)...) {
			if f.Level != levelWarning || f.File != file {
				t.Errorf("%q: %+v", c.file, f)
			}
			got = append(got, strings.Replace(strings.TrimPrefix(f.String(), file), "warning: ", "", 1))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.file, got, c.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	good, bad := inFile(t, header+"retries: 2\nmark: 0x4\ncapture: bind\n"), inFile(t, header+"retries: 9\n")
	for _, c := range []struct {
		args, stdin string
		code        int
		out, err    string
	}{
		{args: good, out: good + ":4: warning: mark is not used: capture bind redirects no connections\nno problems\n"},
		{args: "--config=" + good + " --retries=1 --capture=auto", out: ":3: warning: retries is not used: --retries on the command line wins\n"},
		{args: "-", stdin: header + "retries: 1\n", out: "no problems\n"},
		{args: "-", stdin: header + "retries: 9\n", code: 1, out: "standard input:3: retries=9: want 0 to 8\n", err: "1 problem: usher run would not start"},
		{args: "-", stdin: strings.Repeat("#", maxConfigBytes+1), code: 1, err: "standard input: is larger than 1 MiB"},
		{args: bad, code: 1, out: bad + ":3: retries=9: want 0 to 8\n", err: "1 problem"},
		{args: bad + " --retries=1", out: "no problems\n"},
		{args: good + " --retries=9", code: 1, out: "--retries=9: want 0 to 8\n", err: "1 problem"},
		{args: "testdata/kubeadm.yaml", out: "no problems\n"},
		{args: "/nowhere/usher.yaml", code: 1, out: "/nowhere/usher.yaml: no such file or directory\n", err: "1 problem"},
		{args: "", code: 3, err: "nothing to look at: give a file"},
		{args: good + " " + bad, code: 3, err: "give one file"},
		{args: good + " --config=" + bad, code: 3, err: "give one file"},
		{args: good + " --nope", code: 3, err: "unknown flag: --nope"},
		{args: good + " --retries=x", code: 3, err: `invalid argument "x"`},
		{args: good + " -o yaml", code: 3, err: "--output=yaml: want text or json"},
		{args: good + " --write-config-to=x", code: 3, err: "it is for usher run"},
	} {
		out, messages, code := validated(t, c.stdin, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(messages, c.err) || code == 3 && out != "" {
			t.Errorf("usher config validate %s: exit code %d, %q, %q; want %d, %q, %q", c.args, code, out, messages, c.code, c.out, c.err)
		}
	}
	out, _, _ := validated(t, "", bad, "-o", "json")
	var found []finding
	if err := json.Unmarshal([]byte(out), &found); err != nil || !reflect.DeepEqual(found, []finding{{levelError, bad, 3, "retries", "retries=9: want 0 to 8"}}) {
		t.Errorf("as JSON: %v, %s", err, out)
	}
	if out, _, code := validated(t, header, "-", "-o", "json"); out != "[]\n" || code != 0 {
		t.Errorf("nothing as JSON: %q, exit code %d", out, code)
	}
}

// validated is usher config validate.
func validated(t *testing.T, stdin string, args ...string) (out, messages string, code int) {
	t.Helper()
	root := newRoot(nil)
	var stdout, stderr strings.Builder
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(append([]string{"config", "validate"}, args...))
	err := root.ExecuteContext(t.Context())
	switch {
	case err == nil:
		return stdout.String(), stderr.String(), 0
	case isUsage(err):
		code = exitUsage
	default:
		code = exitCode(err)
	}
	return stdout.String(), stderr.String() + err.Error(), code
}

// A flag that only a judging command has is no key of a file.
func TestKeysAreThoseOfRun(t *testing.T) {
	file := inFile(t, header+"output: json\nrunning: true\nchanged: true\n")
	for _, command := range []string{"check", "config validate", "config show", "run"} {
		out, messages, code := saidOf(t, append(strings.Fields(command), "--config="+file)...)
		for _, key := range []string{"output", "running", "changed"} {
			if want := "unknown key \"" + key + "\""; code == 0 || !strings.Contains(out+messages, want) {
				t.Errorf("usher %s: exit code %d, without %s: %s%s", command, code, want, out, messages)
			}
		}
	}
}

// What is asked of a process that runs: would it be started again as it is now?
func TestCheckConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usher.yaml")
	write(t, file, header+"retries: 1\n")
	args := []string{"run", "--config=" + file, "--node-name=a"}
	if err := CheckConfiguration(args, nil); err != nil {
		t.Errorf("a good one: %v", err)
	}
	write(t, file, header+"retries: 9\nretrys: 1\n")
	want := file + ":3: retries=9: want 0 to 8\n" + file + `:4: unknown key "retrys": do you mean retries?`
	if err := CheckConfiguration(args, nil); err == nil || err.Error() != want {
		t.Errorf("after an edit: %v, want %s", err, want)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := CheckConfiguration(args, nil); err == nil || err.Error() != file+": no such file or directory" {
		t.Errorf("once it is gone: %v", err)
	}
	for _, c := range []struct{ args, want string }{
		{"", "is not the command run"},
		{"check --config=a", "is not the command run"},
		{"run --no-such-flag", "unknown flag: --no-such-flag"},
		{"run a", `unexpected argument "a"`},
		{"run --help", "help requested"},
		{"run --retries=9", "--retries=9: want 0 to 8"},
		{"run --node-name=a --hostname-override=b", "are the same: give one of them"},
	} {
		if err := CheckConfiguration(strings.Fields(c.args), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("usher %s: %v, want %q", c.args, err, c.want)
		}
	}
	if err := CheckConfiguration([]string{"run"}, nil); err != nil {
		t.Errorf("without a file: %v", err)
	}
}
