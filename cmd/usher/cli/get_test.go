package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/proxier/admin"
)

// seen is what the usher of these tests tells.
var seen = []admin.ServicePort{
	{Namespace: "default", Service: "web", PortName: "http", Port: 80, Protocol: "tcp", Family: "IPv4", Balancer: "round-robin",
		Sets: []admin.SetStatus{{Name: "cluster", Endpoints: 2}, {Name: "local", Endpoints: 1}},
		Endpoints: []admin.EndpointStatus{
			{Address: "10.0.0.1:8080", Pod: "default/web-1", Node: "node-1", Zone: "zone-a", Weight: 1,
				Sets: []string{"cluster", "local"}, State: admin.In, Why: "ready, nothing speaks against it", Connections: new(12)},
			{Address: "10.0.0.2:8080", Pod: "other/\x1b[31mweb-2", Weight: 10,
				Sets: []string{"cluster"}, State: admin.Out, Why: "ready, but ill for 3s", Connections: new(0)},
			{Address: "10.0.0.3:8080", Sets: []string{}, State: admin.Out, Why: "not ready", Connections: new(0)},
		}},
	{Namespace: "kube-system", Service: "kube-dns", Port: 53, Protocol: "udp", Family: "IPv6", Balancer: "random", Endpoints: []admin.EndpointStatus{
		{Address: "[fd00::1]:53", Sets: []string{"cluster"}, State: admin.In, Why: "ready, nothing speaks against it"},
	}},
	{Namespace: "kube-system", Service: "none", Port: 1, Protocol: "tcp", Family: "IPv4", Balancer: "random"},
}

// asked serves seen at a socket and returns what usher get endpoints says of it, and
// its exit code.
func asked(t *testing.T, args ...string) (out, messages string, code int) {
	t.Helper()
	socket := adminSocket(t, map[string]admin.View{"/v1/endpoints": {Parameters: []string{"namespace", "service"}, Show: func(q url.Values) (any, error) {
		list := []admin.ServicePort{}
		for _, p := range seen {
			if (!q.Has("namespace") || q.Get("namespace") == p.Namespace) && (!q.Has("service") || q.Get("service") == p.Service) {
				list = append(list, p)
			}
		}
		if len(list) == 0 && q.Has("service") {
			return nil, &admin.Error{Status: 404, Message: "no Service " + q.Get("service")}
		}
		return list, nil
	}}}, nil)
	return saidOfEndpoints(t, append(args, "--admin-socket="+socket)...)
}

// saidOfEndpoints is what usher get endpoints says.
func saidOfEndpoints(t *testing.T, args ...string) (out, messages string, code int) {
	t.Helper()
	return saidOf(t, append([]string{"get", "endpoints"}, args...)...)
}

// saidOf is what a command says, and its exit code.
func saidOf(t *testing.T, args ...string) (out, messages string, code int) {
	t.Helper()
	out, messages, err := executed(t, args)
	if err != nil {
		messages += err.Error()
		code = exitCode(err)
		if isUsage(err) {
			code = exitUsage
		}
	}
	return out, messages, code
}

// executedUntil is what a command prints that is asked to stop when ctx ends.
func executedUntil(t *testing.T, ctx context.Context, args ...string) (out string, err error) {
	t.Helper()
	root := newRoot(nil)
	var stdout strings.Builder
	root.SetOut(&stdout)
	root.SetErr(io.Discard)
	root.SetArgs(args)
	err = root.ExecuteContext(ctx)
	return stdout.String(), err
}

func TestGetEndpoints(t *testing.T) {
	for _, c := range []struct {
		args     string
		out      string
		messages string
		code     int
	}{
		{args: "web", out: `
SERVICE       PORT       FAMILY   ENDPOINT        POD                SETS            STATE   CONNS   WHY
default/web   http/tcp   IPv4     10.0.0.1:8080   web-1              cluster,local   in      12      ready, nothing speaks against it
default/web   http/tcp   IPv4     10.0.0.2:8080   other/?[31mweb-2   cluster         out     0       ready, but ill for 3s
default/web   http/tcp   IPv4     10.0.0.3:8080   <none>             <none>          out     0       not ready
`},
		{args: "-n kube-system -o wide", out: `
SERVICE                PORT     FAMILY   ENDPOINT       POD      SETS      STATE    CONNS       NODE     ZONE     WEIGHT   BALANCER   WHY
kube-system/kube-dns   53/udp   IPv6     [fd00::1]:53   <none>   cluster   in       <unknown>   <none>   <none>   <none>   random     ready, nothing speaks against it
kube-system/none       1/tcp    IPv4     <none>         <none>   <none>    <none>   <none>      <none>   <none>   <none>   random     no EndpointSlice names any
`},
		{args: "kube-system/kube-dns -n other nothing", code: exitNotFound, messages: "no Service nothing", out: `
SERVICE                PORT     FAMILY   ENDPOINT       POD      SETS      STATE   CONNS       WHY
kube-system/kube-dns   53/udp   IPv6     [fd00::1]:53   <none>   cluster   in      <unknown>   ready, nothing speaks against it
`},
		{args: "nothing -o json", code: exitNotFound, messages: "no Service nothing"},
		{args: "-n other", messages: "No resources found in other namespace.\n"},
		{args: "-n other -o yaml", out: "\n[]\n"},
		{args: "web -A", code: exitUsage, messages: "give names, or --all, not both"},
		{args: "web -o xml", code: exitUsage, messages: "--output=xml: want table, wide, json, yaml, name or jsonpath=TEMPLATE"},
		{args: "/web", code: exitUsage, messages: `"/web": want SERVICE or NAMESPACE/SERVICE`},
		{args: "web --nonsense", code: exitUsage, messages: "unknown flag: --nonsense"},
	} {
		out, messages, code := asked(t, strings.Fields(c.args)...)
		if out != strings.TrimPrefix(c.out, "\n") || messages != c.messages || code != c.code {
			t.Errorf("usher get endpoints %s: exit code %d, want %d\nit says\n%s%s\nwant\n%s%s", c.args, code, c.code, out, messages, c.out, c.messages)
		}
	}
}

func TestGetAllEndpointsForPrograms(t *testing.T) {
	for format, read := range map[string]func([]byte, any) error{
		"json": json.Unmarshal,
		"yaml": func(text []byte, into any) error { return yaml.Unmarshal(text, into) },
	} {
		for _, all := range []string{"--all", "-A", "--all-namespaces"} {
			out, messages, code := asked(t, all, "--output="+format)
			var got []admin.ServicePort
			if err := read([]byte(out), &got); err != nil || code != 0 || messages != "" || !reflect.DeepEqual(got, seen) {
				t.Errorf("%s %s: %v %d %s\n%s", all, format, err, code, messages, out)
			}
		}
	}
}

func TestGetEndpointsWithoutUsher(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "usher.sock")
	out, messages, code := saidOfEndpoints(t, "web", "api", "--admin-socket="+nobody)
	if want := "no usher can be asked: " + nobody + " does not exist; is usher running, and is its --admin-socket this one?"; out != "" || messages != want || code != exitUnreachable {
		t.Errorf("exit code %d, %s%s", code, out, messages)
	}
	_, messages, code = saidOfEndpoints(t, "--all", "--admin-socket=usher.sock")
	if messages != "--admin-socket=usher.sock: want an absolute path" || code != exitUsage {
		t.Errorf("exit code %d, %s", code, messages)
	}
}
