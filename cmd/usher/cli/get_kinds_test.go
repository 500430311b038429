package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// shop has some of everything.
func shop() map[string]any {
	port := func(number uint16, active int64, families ...admin.Family) admin.Port {
		return admin.Port{Name: fmt.Sprint("p", number), Port: number, Protocol: "tcp", Balancer: "random", Families: families,
			Traffic: admin.Traffic{Active: active, Opened: 10, Trouble: uint64(active), BytesIn: 2048}}
	}
	created := time.Now().Add(-76 * time.Hour)
	return map[string]any{
		"/v1/services": []admin.Service{
			{Namespace: "shop", Name: "web", Type: "NodePort", Labels: map[string]string{"tier": "front"}, Created: created, Addresses: []string{"10.96.0.1", "fd00::1"},
				Ports: []admin.Port{port(80, 3, admin.Family{Family: "IPv4", Answer: "serve", Endpoints: 3, Usable: 2}, admin.Family{Family: "IPv6", Answer: "refuse"}), port(443, 1, admin.Family{Family: "IPv4", Answer: "serve", Endpoints: 3, Usable: 2})}},
			{Namespace: "shop", Name: "db", Type: "ClusterIP", Labels: map[string]string{"tier": "back"}, Ports: []admin.Port{port(5432, 9, admin.Family{Family: "IPv4", Answer: "serve", Endpoints: 11, Usable: 11})}},
		},
		"/v1/connections": admin.Connections{More: 4, Connections: []admin.Connection{
			{ID: "a-1", Namespace: "shop", Service: "web", PortName: "p80", State: "open", Client: "10.0.0.5:4000", Endpoint: "10.1.0.1:80", Pod: "shop/web-1", AgeSeconds: 7200, BytesIn: 100, BytesOut: 1500000, ConnectMs: -1},
			{ID: "a-2", Namespace: "shop", Service: "db", State: "half-closed", Client: "[fd00::5]:4000", Endpoint: "10.1.0.2:80", AgeSeconds: 5, BytesIn: 2},
		}},
		"/v1/sessions": admin.Sessions{Sessions: []admin.Session{{Namespace: "shop", Service: "web", PortName: "dns", Client: "10.0.0.5:53", Endpoint: "10.1.0.1:53", AgeSeconds: 90, IdleSeconds: 3, DatagramsIn: 7}}},
		"/v1/listeners": []admin.Listener{{Namespace: "shop", Service: "web", PortName: "p80", Protocol: "tcp", Family: "IPv4", Address: "127.0.0.1:3000", Answer: "serve", Set: "cluster",
			Frontends: []string{"cluster 10.96.0.1:80", "node_port 0.0.0.0:30080"}, Active: 3}},
		"/v1/rules": []admin.CapturedBy{
			{Family: "IPv4", Text: "# by usher\n*nat\n:USHER - [0:0]\n-A PREROUTING -j USHER\n-A USHER -d 10.96.0.1/32 -j DNAT --to-destination 127.0.0.1:3000\nCOMMIT\n"},
			{Family: "IPv6", Text: "ip -6 rule add from all lookup 7\n"},
		},
	}
}

func TestGetKinds(t *testing.T) {
	socket := telling(t, shop())
	for _, c := range []struct {
		args     string
		out      string
		messages string // a part of them
		code     int
	}{
		{args: "services -n shop", out: `
NAME   TYPE        CLUSTER-IP   PORT(S)          ENDPOINTS   ACTIVE   OPENED   TROUBLE   AGE
web    NodePort    10.96.0.1    80/TCP,443/TCP   2/3,0/0     4        20       4         3d4h
db     ClusterIP   None         5432/TCP         11/11       9        10       9         <unknown>
`},
		{args: "svc -A -l tier=back --no-headers", out: `
shop   db   ClusterIP   None   5432/TCP   11/11   9   10   9   <unknown>
`},
		{args: "svc -n shop -o name --sort-by=name", out: "\nservice/db\nservice/web\n"},
		{args: "svc -n shop -o name --sort-by=ACTIVE", out: "\nservice/web\nservice/db\n"},
		{args: "svc -n shop -o name --sort-by=endpoints", out: "\nservice/web\nservice/db\n"},
		{args: "svc -n shop -o name --sort-by=.ports[0].port", out: "\nservice/web\nservice/db\n"},
		{args: "svc -n shop -o name --sort-by={.name}", out: "\nservice/db\nservice/web\n"},
		{args: "svc -n shop -o jsonpath={.items[*].name}/{.items[1].missing}", out: "\nweb db/"},
		{args: "svc -n shop -l tier=none", messages: "No resources found in shop namespace.\n"},
		{args: "svc -A -l tier=none", messages: "No resources found\n"},
		{args: "svc -l tier=none -o json", out: "\n[]\n"},
		{args: "connections", messages: "4 more are not shown; --limit=6 shows them too.\n", out: `
ID    SERVICE    PORT     STATE         CLIENT           ENDPOINT      POD          IN     OUT     AGE
a-1   shop/web   p80      open          10.0.0.5:4000    10.1.0.1:80   shop/web-1   100B   1.5MB   120m
a-2   shop/db    <none>   half-closed   [fd00::5]:4000   10.1.0.2:80   <none>       2B     0B      5s
`},
		{args: "conn --older 1h -o name", messages: "4 more", out: "\nconnection/a-1\n"},
		{args: "conn -l tier=back -o name", messages: "4 more", out: "\nconnection/a-2\n"},
		{args: "conn --limit 1 -o name", messages: "5 more are not shown; --limit=6", out: "\nconnection/a-1\n"},
		{args: "sess", out: `
SERVICE    PORT   CLIENT        ENDPOINT      POD      ANSWERED   IN   OUT   IDLE   AGE
shop/web   dns    10.0.0.5:53   10.1.0.1:53   <none>   false      7    0     3s     90s
`},
		{args: "listeners", out: `
SERVICE    PORT      FAMILY   ADDRESS          ANSWER   SET       ACTIVE   FRONTENDS
shop/web   p80/tcp   IPv4     127.0.0.1:3000   serve    cluster   3        cluster 10.96.0.1:80, node_port 0.0.0.0:30080
`},
		{args: "rules", out: `
FAMILY   TABLE    CHAIN        RULE
IPv4     nat      PREROUTING   -j USHER
IPv4     nat      USHER        -d 10.96.0.1/32 -j DNAT --to-destination 127.0.0.1:3000
IPv6     <none>   <none>       ip -6 rule add from all lookup 7
`},

		{args: "svc -l a=b=c", code: exitUsage, messages: "--selector=a=b=c: "},
		{args: "svc --sort-by=colour", code: exitUsage, messages: "--sort-by=colour: want a JSONPath as in .name, or one of the columns: namespace, name"},
		{args: "svc --sort-by=.x[", code: exitUsage, messages: "--sort-by=.x["},
		{args: "svc -o jsonpath={.x", code: exitUsage, messages: "--output=jsonpath={.x: unclosed"},
		{args: "svc -o jsonpath=", code: exitUsage, messages: "want table"},
		{args: "svc --output-watch-events", code: exitUsage, messages: "is for --watch"},
		{args: "svc a/b/c", code: exitUsage, messages: `"a/b/c": want SERVICE or NAMESPACE/SERVICE`},
		{args: "conn --client=nobody", code: exitUsage, messages: `--client="nobody": want an address or a CIDR`},
		{args: "conn --older=-1s", code: exitUsage, messages: "--older=-1s: want"},
		{args: "conn --limit=0", code: exitUsage, messages: "--limit=0: want 1 to 100000"},
		{args: "conn -s a/b/c", code: exitUsage, messages: `"a/b/c": want`},
		{args: "sessions web", code: exitUsage, messages: "sessions have no names"},
		{args: "rules web", code: exitUsage, messages: "rules have no names"},
		{args: "rules -o name", code: exitUsage, messages: "--output=name: want"},
		{args: "rules -n shop", code: exitUsage, messages: "unknown shorthand flag"},
	} {
		if c.out == "\n[]\n" {
			c.args += " -n shop"
		}
		out, messages, code := saidOf(t, append(strings.Fields("get "+c.args), "--admin-socket="+socket)...)
		if out != strings.TrimPrefix(c.out, "\n") || !strings.Contains(messages, c.messages) || c.messages == "" && messages != "" || code != c.code {
			t.Errorf("usher get %s: exit code %d, want %d\nit says\n%s%s\nwant\n%s%s", c.args, code, c.code, out, messages, c.out, c.messages)
		}
	}
}

// One that is named is a document by itself; several are a list, as with kubectl.
func TestGetOneDocument(t *testing.T) {
	views := shop()
	views["/v1/services"] = views["/v1/services"].([]admin.Service)[:1]
	socket := telling(t, views)
	out, _, code := saidOf(t, "get", "svc", "shop/web", "-o", "jsonpath={.name}:{.ports[1].port}", "--admin-socket="+socket)
	if out != "web:443" || code != 0 {
		t.Errorf("of one it says %q", out)
	}
	var one admin.Service
	out, _, _ = saidOf(t, "get", "svc", "shop/web", "-o", "json", "--admin-socket="+socket)
	if err := json.Unmarshal([]byte(out), &one); err != nil || one.Name != "web" {
		t.Errorf("of one it says %s", out)
	}
	var list []admin.Service
	out, _, _ = saidOf(t, "get", "svc", "-n", "shop", "-o", "json", "--admin-socket="+socket)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Errorf("of all it says %s", out)
	}
}

// What usher is asked for.
func TestQueriesOfGet(t *testing.T) {
	for args, want := range map[string]url.Values{
		"conn":                            {"namespace": {"default"}, "limit": {"1000"}},
		"conn -A":                         {"limit": {"1000"}},
		"conn a-1":                        {"id": {"a-1"}},
		"conn -s shop/web":                {"namespace": {"shop"}, "service": {"web"}, "limit": {"1000"}},
		"conn -n shop -s web --limit 5":   {"namespace": {"shop"}, "service": {"web"}, "limit": {"5"}},
		"conn --client 10.0.0.0/8":        {"client": {"10.0.0.0/8"}, "limit": {"1000"}},
		"conn -n shop --pod web-1":        {"namespace": {"shop"}, "pod": {"web-1"}, "limit": {"1000"}},
		"conn -n shop --older 1h":         {"namespace": {"shop"}, "limit": {"100000"}},
		"sess -n shop --client fd00::1":   {"namespace": {"shop"}, "client": {"fd00::1"}, "limit": {"1000"}},
		"svc":                             {"namespace": {"default"}},
		"svc shop/web":                    {"namespace": {"shop"}, "service": {"web"}},
		"listeners -n shop web":           {"namespace": {"shop"}, "service": {"web"}},
		"rules":                           {},
		"endpoints --all --sort-by conns": {},
	} {
		var got url.Values
		view := admin.View{Parameters: []string{"namespace", "service", "pod", "client", "limit", "id"}, Show: func(q url.Values) (any, error) {
			got = q
			return nil, nil
		}}
		socket := adminSocket(t, map[string]admin.View{"/v1/connections": view, "/v1/sessions": view, "/v1/services": view, "/v1/endpoints": view,
			"/v1/listeners": view, "/v1/rules": view}, nil)
		saidOf(t, append(strings.Fields("get "+args), "--admin-socket="+socket)...)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("usher get %s asks for %v, want %v", args, got, want)
		}
	}
}

func TestGetConnectionThatDoesNotLast(t *testing.T) {
	socket := telling(t, map[string]any{"/v1/connections": admin.Connections{}})
	if _, messages, code := saidOf(t, "get", "conn", "a-9", "--admin-socket="+socket); code != exitNotFound || !strings.Contains(messages, `no connection "a-9" lasts`) {
		t.Errorf("exit code %d, %s", code, messages)
	}
}

// A watch prints what there is, then what is other than before, and ends in good order.
func TestWatch(t *testing.T) {
	watchPause = time.Millisecond
	defer func() { watchPause = time.Second }()
	service := func(name string, active int64, old time.Duration) admin.Service {
		return admin.Service{Namespace: "shop", Name: name, Type: "ClusterIP", Created: time.Now().Add(-old), Addresses: []string{"10.96.0.1"},
			Ports: []admin.Port{{Port: 80, Protocol: "tcp", Traffic: admin.Traffic{Active: active}}}}
	}
	told := [][]admin.Service{
		{service("web", 1, time.Hour), service("db", 1, time.Hour)},
		{service("web", 1, 2*time.Hour), service("db", 1, 2*time.Hour)}, // older, which is no news
		{service("web", 2, time.Hour), service("db", 1, time.Hour)},
		{service("web", 2, time.Hour), service("a-long-name", 7, 0)},
	}
	for _, c := range []struct{ args, want string }{
		{"-o name", "service/web\nservice/db\nservice/web\nservice/a-long-name\n"},
		{"", `
NAME   TYPE        CLUSTER-IP   PORT(S)   ENDPOINTS   ACTIVE   OPENED   TROUBLE   AGE
web    ClusterIP   10.96.0.1    80/TCP    <none>      1        0        0         60m
db     ClusterIP   10.96.0.1    80/TCP    <none>      1        0        0         60m
web    ClusterIP   10.96.0.1    80/TCP    <none>      2        0        0         60m
a-long-name   ClusterIP   10.96.0.1   80/TCP   <none>   7   0   0   0s
`[1:]},
		{"--no-headers --output-watch-events", `
ADDED   web   ClusterIP   10.96.0.1   80/TCP   <none>   1   0   0   60m
ADDED   db    ClusterIP   10.96.0.1   80/TCP   <none>   1   0   0   60m
MODIFIED   web   ClusterIP   10.96.0.1   80/TCP   <none>   2   0   0   60m
ADDED      a-long-name   ClusterIP   10.96.0.1   80/TCP   <none>   7   0   0   0s
DELETED    db            ClusterIP   10.96.0.1   80/TCP   <none>   1   0   0   60m
`[1:]},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int64
		socket := adminSocket(t, map[string]admin.View{"/v1/services": {Parameters: []string{"namespace"}, Show: func(url.Values) (any, error) {
			n := int(asked.Add(1))
			if n == len(told)+3 {
				cancel() // what came last has been printed
			}
			return told[min(n, len(told))-1], nil
		}}}, nil)
		out, err := executedUntil(t, ctx, append(strings.Fields("get svc -n shop -w "+c.args), "--admin-socket="+socket)...)
		if squeezed(out) != squeezed(c.want) || err != nil {
			t.Errorf("%s: it prints, with %v,\n%s\nwant\n%s", c.args, err, out, c.want)
		}
	}
}

// With JSON a watch prints a document for each change.
func TestWatchForPrograms(t *testing.T) {
	watchPause = time.Millisecond
	defer func() { watchPause = time.Second }()
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	socket := adminSocket(t, map[string]admin.View{"/v1/connections": {Parameters: []string{"namespace", "limit"}, Show: func(url.Values) (any, error) {
		n := asked.Add(1)
		if n == 6 {
			cancel()
		}
		return admin.Connections{Connections: []admin.Connection{{ID: "a-1", Namespace: "default", AgeSeconds: float64(n), BytesIn: min(n, 2)}}}, nil
	}}}, nil)
	out, err := executedUntil(t, ctx, "get", "conn", "-w", "-o", "json", "--admin-socket="+socket)
	var bytesIn []int64
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var c admin.Connection
		if err := d.Decode(&c); err != nil {
			t.Fatal(err)
		}
		bytesIn = append(bytesIn, c.BytesIn)
	}
	if !reflect.DeepEqual(bytesIn, []int64{1, 2}) || err != nil {
		t.Errorf("with %v, documents of %v bytes:\n%s", err, bytesIn, out)
	}
}

func TestWatchSeparatesYAML(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watchPause = time.Millisecond
	defer func() { watchPause = time.Second }()
	var asked atomic.Int64
	socket := adminSocket(t, map[string]admin.View{"/v1/rules": {Show: func(url.Values) (any, error) {
		if asked.Add(1) == 3 {
			cancel()
		}
		return []admin.CapturedBy{{Family: "IPv4", Text: "rule a"}, {Family: "IPv6", Text: "rule b"}}, nil
	}}}, nil)
	out, err := executedUntil(t, ctx, "get", "rules", "-w", "-o", "yaml", "--admin-socket="+socket)
	if want := "---\nfamily: IPv4\ntext: rule a\n---\nfamily: IPv6\ntext: rule b\n"; out != want || err != nil {
		t.Errorf("it prints, with %v,\n%s", err, out)
	}
}

// squeezed leaves one space between cells.
func squeezed(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

func TestQuantities(t *testing.T) {
	for n, want := range map[float64]string{0: "0B", 999: "999B", 1000: "1.0kB", 999_949: "999.9kB", 999_950: "1.0MB", 1.5e9: "1.5GB", 2.5: "2.5B", 18e18: "18.0EB"} {
		if got := quantity(n, "B"); got != want {
			t.Errorf("%v is %s, want %s", n, got, want)
		}
	}
	for ms, want := range map[float64]string{-1: "never", 0: "0ms", 1.1119999999: "1.112ms", 1500: "1.5s", 3_600_000: "1h0m0s"} {
		if got := milliseconds(ms); got != want {
			t.Errorf("%v ms is %s, want %s", ms, got, want)
		}
	}
}
