package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/proxier/admin"
)

// originOf is one setting of those that a command line makes.
func originOf(t *testing.T, key string, args ...string) (found admin.Setting) {
	t.Helper()
	o, _ := mustConfigure(t, args...)
	for _, x := range o.origins() {
		if x.Key == key {
			return x
		}
	}
	t.Fatalf("there is no setting %s", key)
	return found
}

// For one setting of each type: who wins, and what is told of it.
func TestPrecedence(t *testing.T) {
	kubeProxy := inFile(t, kubeProxyHeader+"hostnameOverride: k\nclientConnection:\n  qps: 7\n  kubeconfig: /k\nnodePortAddresses: [primary]\nenableProfiling: true\n"+
		"iptables:\n  masqueradeAll: true\n  syncPeriod: 40s\n")
	for _, c := range []struct {
		key, file, flag string
		standard        any // where nobody says anything
		ofFile          any
		ofFlag          any
	}{
		{"nodeName", "f", "--node-name=c", "", "f", "c"},
		{"nodeName", "f", "--hostname-override=c", "", "f", "c"},
		{"retries", "1", "--retries=0", 3, 1, 0},
		{"kubeApiQps", "0.5", "--kube-api-qps=30", 20.0, 0.5, 30.0},
		{"announceVips", "true", "--announce-vips=false", false, true, false},
		{"syncPeriod", "40s", "--iptables-sync-period=50s", "30s", "40s", "50s"},
		{"nodeportAddresses", "[primary, localhost]", "--nodeport-addresses=all", []string{}, []string{"primary", "localhost"}, []string{"all"}},
		{"manifests", "[a]", "--manifests=b", []string{}, []string{"a"}, []string{"b"}},
		{"preserveSource", "never", "--masquerade-all=false", "auto", "never", "auto"},
		{"logLevel", "error", "-v=5", "info", "error", "debug"},
		{"healthzBindAddress", "127.0.0.1:1", "--healthz-bind-address=", "0.0.0.0:10256", "127.0.0.1:1", ""},
	} {
		file := inFile(t, header+"\n"+c.key+": "+c.file+"\n")
		name, _, _ := strings.Cut(c.flag, "=")
		if name == "-v" {
			name = "--v"
		}
		got := originOf(t, c.key)
		if got.Origin != admin.OriginDefault || !reflect.DeepEqual(got.Value, c.standard) || got.As != "" {
			t.Errorf("%s by itself: %+v", c.key, got)
		}
		got = originOf(t, c.key, "--config="+file)
		if got.Origin != admin.OriginFile || !reflect.DeepEqual(got.Value, c.ofFile) || got.File != file || got.Line != 4 || got.As != c.key {
			t.Errorf("%s of a file: %+v", c.key, got)
		}
		got = originOf(t, c.key, c.flag)
		if got.Origin != admin.OriginCommandLine || !reflect.DeepEqual(got.Value, c.ofFlag) || got.As != name || got.Overrules != "" {
			t.Errorf("%s by %s: %+v", c.key, c.flag, got)
		}
		got = originOf(t, c.key, "--config="+file, c.flag)
		if got.Origin != admin.OriginCommandLine || !reflect.DeepEqual(got.Value, c.ofFlag) || got.File != "" || got.Overrules != fmt.Sprintf("%s:4: %s", file, c.key) {
			t.Errorf("%s by %s and a file: %+v", c.key, c.flag, got)
		}
	}
	for key, want := range map[string]admin.Setting{
		"nodeName":          {Flag: "node-name", Value: "k", As: "hostnameOverride", Line: 3},
		"kubeApiQps":        {Flag: "kube-api-qps", Value: 7.0, As: "clientConnection.qps", Line: 5},
		"kubeconfig":        {Flag: "kubeconfig", Value: "/k", As: "clientConnection.kubeconfig", Line: 6},
		"nodeportAddresses": {Flag: "nodeport-addresses", Value: []string{"primary"}, As: "nodePortAddresses", Line: 7},
		"profiling":         {Flag: "profiling", Value: true, As: "enableProfiling", Line: 8},
		"preserveSource":    {Flag: "preserve-source", Value: "never", As: "iptables.masqueradeAll", Line: 10},
		"syncPeriod":        {Flag: "sync-period", Value: "40s", As: "iptables.syncPeriod", Line: 11},
	} {
		want.Key, want.Origin, want.File = key, admin.OriginFile, kubeProxy
		if got := originOf(t, key, "--config="+kubeProxy); !reflect.DeepEqual(got, want) {
			t.Errorf("%s of kube-proxy's file: %+v, want %+v", key, got, want)
		}
	}
}

// The command line's manifests take the place of an API server, too.
func TestRivalsAreOverruled(t *testing.T) {
	file := inFile(t, header+"kubeconfig: /k\n")
	got := originOf(t, "kubeconfig", "--config="+file, "--manifests=m")
	if got.Value != "" || got.Origin != admin.OriginDefault || got.Overrules != file+":3: kubeconfig" {
		t.Errorf("%+v", got)
	}
}

func TestASettingThatFollowsFromAnother(t *testing.T) {
	got := originOf(t, "nodeportAddresses", "--proxy-mode=nftables")
	if got.Origin != admin.OriginImplied || got.As != "--proxy-mode=nftables" || !slices.Equal(got.Value.([]string), []string{"primary"}) {
		t.Errorf("%+v", got)
	}
	if got := originOf(t, "nodeportAddresses", "--proxy-mode=nftables", "--nodeport-addresses=all"); got.Origin != admin.OriginCommandLine {
		t.Errorf("%+v", got)
	}
}

// Every key of a file is told, and nothing else.
func TestOriginsAreOfAllSettings(t *testing.T) {
	o, _ := mustConfigure(t)
	var told []string
	for _, x := range o.origins() {
		told = append(told, x.Key)
	}
	var keys []string
	for key := range o.keys() {
		keys = append(keys, key)
	}
	slices.Sort(told)
	slices.Sort(keys)
	if !slices.Equal(told, keys) {
		t.Errorf("told of %q, the keys are %q", told, keys)
	}
}

func TestConfigShow(t *testing.T) {
	file := inFile(t, header+"retries: 2\nnodeName: a\nmanifests: [a, b]\n")
	out, _, code := saidOf(t, "config", "show", "--changed", "--config="+file, "--hostname-override=c", "--proxy-mode=nftables")
	want := fmt.Sprintf(`SETTING             VALUE     ORIGIN
manifests           a,b       %[1]s:5
nodeName            c         --hostname-override, wins over %[1]s:4: nodeName
nodeportAddresses   primary   follows from --proxy-mode=nftables
retries             2         %[1]s:3
`, file)
	if out != want || code != 0 {
		t.Errorf("exit code %d, got\n%s\nwant\n%s", code, out, want)
	}
	if out, _, _ := saidOf(t, "config", "show"); !strings.Contains(out, "\nretries ") || strings.Contains(out, "\noutput ") || strings.Contains(out, "writeConfigTo") {
		t.Errorf("all: %s", out)
	}
	for format, decode := range map[string]func([]byte, *[]admin.Setting) error{
		"json": func(text []byte, all *[]admin.Setting) error { return json.Unmarshal(text, all) },
		"yaml": func(text []byte, all *[]admin.Setting) error { return sigsyaml.Unmarshal(text, all) },
	} {
		var all []admin.Setting
		out, _, _ := saidOf(t, "config", "show", "-o", format, "--changed", "--retries=1")
		if err := decode([]byte(out), &all); err != nil || len(all) != 1 || all[0].Key != "retries" || all[0].Value != 1.0 || all[0].As != "--retries" {
			t.Errorf("as %s: %v, %+v", format, err, all)
		}
	}
	for args, want := range map[string]string{
		"--retries=9":                         "--retries=9: want 0 to 8",
		"-o wide":                             "--output=wide: want table, json or yaml",
		"a":                                   `unexpected argument "a"`,
		"--running --retries=1":               "--running has the settings that usher was started with: leave out --retries",
		"--running --admin-socket=usher.sock": "--admin-socket=usher.sock: want an absolute path",
	} {
		if out, messages, code := saidOf(t, append([]string{"config", "show"}, strings.Fields(args)...)...); code != exitUsage || out != "" || !strings.Contains(messages, want) {
			t.Errorf("usher config show %s: exit code %d, %q, want %q", args, code, messages, want)
		}
	}
}

// The usher that runs tells what it was started with.
func TestConfigShowRunning(t *testing.T) {
	o, _ := mustConfigure(t, "--config="+inFile(t, header+"nodeportAddresses: [primary, localhost]\nretries: 2\n"), "--retries=1")
	socket := telling(t, map[string]any{"/v1/config": o.origins()})
	shown := func(args ...string) string {
		out, messages, code := saidOf(t, append([]string{"config", "show", "--changed"}, args...)...)
		if code != 0 {
			t.Fatal(messages)
		}
		return out
	}
	for _, format := range []string{"table", "json", "yaml"} {
		running := shown("--running", "--admin-socket="+socket, "-o", format)
		if here := shown("--config="+o.file.path, "--retries=1", "-o", format); running != here {
			t.Errorf("-o %s: it says\n%s\nbut was started with\n%s", format, running, here)
		}
	}
	if _, messages, code := saidOf(t, "config", "show", "--running", "--admin-socket="+t.TempDir()+"/none"); code != exitUnreachable || !strings.Contains(messages, "is usher running") {
		t.Errorf("nobody there: exit code %d, %s", code, messages)
	}
	broken := telling(t, map[string]any{"/v1/config": errors.New("it broke")})
	if _, _, code := saidOf(t, "config", "show", "--running", "--admin-socket="+broken); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

// Settings are shown to whoever may read metrics or the admin socket, so none may be a
// secret; an error about one that would be is none, either.
func TestNoSettingIsASecret(t *testing.T) {
	for _, args := range [][]string{
		{"--master=https://me:secret@10.0.0.1"}, {"--master=me:secret@10.0.0.1:6443"}, {"--config=" + inFile(t, header+"master: https://me:secret@10.0.0.1\n")},
	} {
		_, _, err := configured(args...)
		if err == nil || !strings.Contains(err.Error(), "want an address without credentials") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", args, err)
		}
	}
}
