package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
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
	out, messages, err := executed(t, append(args, "--admin-socket="+telling(t, views)))
	if err != nil {
		messages += complaint(err)
	}
	return out, messages
}

// telling is the socket of a usher that tells these things, whatever it is asked for by
// any parameter. Of /v1/flows it tells a []admin.Flow as lines.
func telling(t *testing.T, views map[string]any) string {
	t.Helper()
	shown := map[string]admin.View{}
	for path, told := range views {
		shown[path] = admin.View{
			Parameters: []string{"namespace", "service", "pod", "client", "limit", "id"},
			Show: func(url.Values) (any, error) {
				err, failed := told.(error)
				if failed {
					return nil, err
				}
				return told, nil
			}}
	}
	flows, _ := views["/v1/flows"].([]admin.Flow)
	return streamSocket(t, shown, func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range flows {
			json.NewEncoder(w).Encode(f)
		}
	})
}

// streamSocket is that of a usher which shows these things, and answers /v1/flows so.
func streamSocket(t *testing.T, views map[string]admin.View, flows http.HandlerFunc) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "usher.sock")
	t.Cleanup(streamAt(t, socket, views, flows))
	return socket
}

// streamAt does so at a socket until stop is called.
func streamAt(t *testing.T, socket string, views map[string]admin.View, flows http.HandlerFunc) (stop func()) {
	t.Helper()
	server := admin.API{Views: views}.Server()
	others := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/flows" {
			flows(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
	return serveAt(t, socket, server)
}

// serveAt has a server answer at a socket until stop is called.
func serveAt(t *testing.T, socket string, server *http.Server) (stop func()) {
	t.Helper()
	l, err := admin.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	return func() { server.Close(); <-ended }
}

// adminSocket is that of a usher which shows and does these things, while the test lasts.
func adminSocket(t *testing.T, views map[string]admin.View, actions map[string]admin.Action) string {
	t.Helper()
	return socketOf(t, admin.API{Views: views, Actions: actions})
}

// socketOf is that of a usher with this API, while the test lasts.
func socketOf(t *testing.T, api admin.API) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "usher.sock")
	t.Cleanup(serveAt(t, socket, api.Server()))
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
			"/v1/status":     admin.Status{Version: name, Node: name, Capture: name, CaptureWhy: name, Families: []string{name}, Ready: true, Source: name, Watch: []admin.Watch{{Resource: name}}, Rules: admin.Rules{Failing: name}, Recent: []admin.ReasonCount{{Reason: name, Code: name, Side: name, Text: name, Count: 1}}},
			"/v1/config":     []admin.Setting{{Key: name, Flag: name, Value: []string{name}, Origin: admin.OriginFile, As: name, File: name, Line: 1, Overrules: name}},
			"/v1/rules":      []admin.CapturedBy{{Family: "IPv4", Text: "-A USHER -m comment --comment " + name + "\nCOMMIT\n"}},
			"/v1/rules/diff": []admin.RuleDifference{{Family: "IPv4", Text: name}},
			"/v1/attention":  []admin.Attention{{Severity: name, Kind: name, Namespace: name, Name: name, Port: name, Reason: name, Message: name}},
			"/v1/services": []admin.Service{{Namespace: name, Name: name, Type: name, Labels: map[string]string{name: name}, Addresses: []string{name}, External: []string{name},
				Ports: []admin.Port{{Name: name, Protocol: name, Balancer: name, Families: []admin.Family{{Family: name, Answer: name}}}}}},
			"/v1/connections": admin.Connections{Connections: []admin.Connection{{ID: name, State: name, Namespace: name, Service: name, PortName: name, Client: name, ClientKind: name,
				VIP: name, VIPKind: name, Listener: name, Set: name, Balancer: name, Endpoint: name, Pod: name, Node: name, Zone: name, Source: name, Closed: name,
				Attempts: []admin.Attempt{{Endpoint: name, Pod: name, Result: name, Errno: name}}, TCPClient: &admin.TCPInfo{State: name}}}},
			"/v1/sessions":  admin.Sessions{Sessions: []admin.Session{{Namespace: name, Service: name, PortName: name, Client: name, VIP: name, Endpoint: name, Pod: name, Node: name}}},
			"/v1/listeners": []admin.Listener{{Namespace: name, Service: name, PortName: name, Protocol: name, Address: name, Answer: name, Set: name, Frontends: []string{name}}},
			"/v1/traffic":   admin.TrafficNow{Ports: []admin.PortTraffic{{Namespace: name, Service: name, PortName: name, Protocol: name}}},
			"/v1/map":       admin.Talk{Edges: []admin.Edge{{Client: name, ClientPod: name, Namespace: name, Service: name, Endpoint: name, Pod: name}}},
			"/v1/flows": []admin.Flow{{ID: "1-1", Message: name, Namespace: name, Service: name, PortName: name, ClientIP: name, VIP: name, VIPKind: name, BackendIP: name, BackendPod: name, BackendNode: name,
				Protocol: name, Reason: name, Code: name, Side: name, Phase: name, Errno: name, Attempts: []admin.FlowAttempt{{Backend: name, Pod: name, Result: name, Errno: name}}, ClientClose: name, SentClient: name}},
		}
		for _, args := range []string{
			"get endpoints -A", "get endpoints -A -o wide", "get endpoints -A -o json", "get endpoints -A -o yaml",
			"get endpoints -A -o jsonpath={.items[0].service}.", "get endpoints -A -o name",
			"get services -A", "get services -A -o wide", "get connections -A -o wide", "get connections -A -o name", "get sessions -A -o wide", "get listeners -A", "get rules",
			"describe service a/b", "describe connection x", "observe", "observe -o wide", "observe -o dict", "observe -o json", "observe --color=never",
			"top --once", "top --once endpoints", "top --once clients", "top --once clients -o json",
			"config show --running", "config show --running -o yaml", "status", "status -o json", "status -o yaml", "rules print", "rules diff",
		} {
			if strings.HasPrefix(args, "top") {
				if name != nastyNames[0] {
					continue // as it takes its time
				}
				args += " --interval=200ms"
			}
			out, messages := commanded(t, views, strings.Fields(args)...)
			clean(t, args, out)
			clean(t, args, messages)
			if out == "" {
				t.Errorf("%s prints nothing: %s", args, messages)
			}
			switch {
			case args == "get endpoints -A -o json":
				readBack(t, args, out, json.Unmarshal, ports)
			case args == "get endpoints -A -o yaml":
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
