package cli

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/proxier/admin"
)

// nastyNames cannot be in a cluster, but in a manifest file, and in what others write
// into the kernel.
var nastyNames = []string{
	"\x1b[2Jgone", "a\nb", "a\rb", "\u009b31m", "\x7f", "\x00", "\u202egpj", "\u2028", "\U000e0041", "a\tb\tc",
}

// clean fails the test if a terminal would do anything but print the text.
func clean(t *testing.T, what, text string) {
	t.Helper()
	for _, r := range text {
		if !unicode.IsPrint(r) && r != '\n' {
			t.Errorf("%s prints %U: %q", what, r, text)
			return
		}
	}
}

// commanded is what a command prints that asks a usher which tells these things.
func commanded(t *testing.T, views map[string]any, args ...string) (out, messages string) {
	t.Helper()
	shown := map[string]admin.View{}
	for path, told := range views {
		shown[path] = admin.View{Parameters: []string{"namespace", "service"}, Show: func(url.Values) (any, error) {
			err, failed := told.(error)
			if failed {
				return nil, err
			}
			return told, nil
		}}
	}
	out, messages, err := executed(t, append(args, "--admin-socket="+adminSocket(t, shown, nil)))
	if err != nil {
		messages += complaint(err)
	}
	return out, messages
}

// adminSocket is that of a usher which shows and does these things, while the test lasts.
func adminSocket(t *testing.T, views map[string]admin.View, actions map[string]admin.Action) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "usher.sock")
	l, err := admin.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	server := admin.Server(views, actions)
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return socket
}

// executed is what a command prints, and fails with.
func executed(t *testing.T, args []string) (out, messages string, err error) {
	root := newRoot(nil)
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

// Nothing of a name reaches the terminal that is not printable, whatever prints it, and
// programs read the name as it is.
func TestNastyNames(t *testing.T) {
	for _, name := range nastyNames {
		ports := []admin.ServicePort{{
			Namespace: name, Service: name, PortName: name, Protocol: "tcp", Family: "IPv4", Balancer: name,
			Sets: []admin.SetStatus{{Name: "cluster", Topology: name}},
			Endpoints: []admin.EndpointStatus{{
				Address: name, Pod: name, Node: name, Zone: name, Sets: []string{name}, State: admin.In, Why: name,
			}},
		}}
		views := map[string]any{
			"/v1/endpoints":  ports,
			"/v1/status":     admin.Status{Version: name, Node: name, Capture: name, CaptureWhy: name, Families: []string{name}, Ready: true},
			"/v1/rules":      []admin.CapturedBy{{Family: "IPv4", Text: "-A USHER -m comment --comment " + name + "\nCOMMIT\n"}},
			"/v1/rules/diff": []admin.RuleDifference{{Family: "IPv4", Text: name}},
		}
		for _, args := range []string{
			"get endpoints -A", "get endpoints -A -o wide", "get endpoints -A -o json", "get endpoints -A -o yaml",
			"status", "status -o json", "status -o yaml", "rules print", "rules diff",
		} {
			out, messages := commanded(t, views, strings.Fields(args)...)
			clean(t, args, out)
			clean(t, args, messages)
			if out == "" {
				t.Errorf("%s prints nothing: %s", args, messages)
			}
			switch {
			case strings.HasPrefix(args, "get") && strings.HasSuffix(args, "json"):
				readBack(t, args, out, json.Unmarshal, ports)
			case strings.HasPrefix(args, "get") && strings.HasSuffix(args, "yaml"):
				readBack(t, args, out, func(b []byte, to any) error { return yaml.Unmarshal(b, to) }, ports)
			}
		}
		_, messages := commanded(t, map[string]any{"/v1/status": &admin.Error{Status: 404, Message: "no Service " + name}}, "status")
		clean(t, "a failure", messages)
		if messages == "" {
			t.Error("no failure is told")
		}

		manifest := inFile(t, `{apiVersion: v1, kind: Service, metadata: {name: `+string(must(json.Marshal(name)))+`}, spec: {ports: [{port: 1}], clusterIP: x}}`)
		var out strings.Builder
		lint := newConfigLint(nil)
		lint.SetArgs([]string{manifest})
		lint.SetOut(&out)
		lint.SilenceErrors, lint.SilenceUsage = true, true
		err := lint.Execute()
		clean(t, "config lint", out.String())
		if err == nil {
			t.Errorf("config lint accepts the name %q: %s", name, out.String())
			continue
		}
		clean(t, "config lint", complaint(err))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func readBack(t *testing.T, args, out string, unmarshal func([]byte, any) error, want []admin.ServicePort) {
	t.Helper()
	var got []admin.ServicePort
	if err := unmarshal([]byte(out), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: read back as %+v (%v), want %+v", args, got, err, want)
	}
}
