package cli

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/usher-proxy/usher/proxier/admin"
)

// draining is a usher whose endpoint 10.0.0.1:80 has one connection less each time that
// somebody looks, and notes what it is asked to do.
func draining(t *testing.T, connections int64) (socket string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	var left atomic.Int64
	left.Store(connections)
	now := func() []admin.Drained {
		return []admin.Drained{
			{Endpoint: "10.9.9.9", UID: 1, Endpoints: []admin.DrainedEndpoint{{Address: "10.9.9.9:80", Connections: new(5)}}},
			{Endpoint: "10.0.0.1:80", Endpoints: []admin.DrainedEndpoint{
				{Namespace: "default", Service: "web", PortName: "http", Protocol: "tcp", Address: "10.0.0.1:80", Pod: "default/\x1bweb-1", Connections: new(int(left.Load()))},
				{Namespace: "default", Service: "dns", Protocol: "udp", Address: "10.0.0.1:80"},
			}},
		}
	}
	do := func(path string) func(context.Context, url.Values) (any, error) {
		return func(_ context.Context, q url.Values) (any, error) {
			*asked = append(*asked, path+"?"+q.Encode())
			switch {
			case q.Has("all"):
				return []admin.Drained{}, nil
			case q.Get("pod") == "default/nobody":
				return nil, &admin.Error{Status: 404, Message: "no EndpointSlice names it"}
			}
			return now()[1:], nil
		}
	}
	parameters := []string{"endpoint", "pod", "namespace", "service", "all"}
	return adminSocket(t, map[string]admin.View{"/v1/drained": {Show: func(url.Values) (any, error) {
		left.Store(max(left.Load()-1, 0))
		return now(), nil
	}}}, map[string]admin.Action{
		"/v1/drain":   {Parameters: parameters, Do: do("drain")},
		"/v1/undrain": {Parameters: parameters, Do: do("undrain")},
	}), asked
}

func TestDrain(t *testing.T) {
	for _, c := range []struct {
		args  string
		asks  string
		out   string
		says  string
		code  int
		conns int64
	}{
		{args: "drain endpoint 10.0.0.1:80", asks: "drain?endpoint=10.0.0.1%3A80", conns: 2, out: `
10.0.0.1:80 drained: default/web:http, pod default/?web-1 (2 connections)
10.0.0.1:80 drained: default/dns (sessions of UDP move by themselves)
`},
		{args: "drain endpoint web-1 -n shop -s api", asks: "drain?namespace=shop&pod=shop%2Fweb-1&service=api", conns: 1, out: "\n10.0.0.1:80 drained: default/web:http, pod default/?web-1 (1 connection)\n10.0.0.1:80 drained: default/dns (sessions of UDP move by themselves)\n"},
		{args: "drain ep 10.0.0.1:80 --wait", asks: "drain?endpoint=10.0.0.1%3A80", conns: 1, out: "\n10.0.0.1:80 drained: default/web:http, pod default/?web-1 (1 connection)\n10.0.0.1:80 drained: default/dns (sessions of UDP move by themselves)\n"},
		{args: "drain endpoint 10.0.0.1:80 --wait --timeout 1ms", asks: "drain?endpoint=10.0.0.1%3A80", conns: 1 << 40, code: exitFailed, says: "it still has "},
		{args: "drain endpoint nobody", asks: "drain?pod=default%2Fnobody", code: exitNotFound},
		{args: "undrain endpoint 10.0.0.1 -s a/b", asks: "undrain?endpoint=10.0.0.1&namespace=a&service=b"},
		{args: "undrain endpoint --all", asks: "undrain?all=true", says: "Nothing was drained.\n"},
		{args: "undrain endpoint --all 10.0.0.1", code: exitUsage},
		{args: "undrain endpoint", code: exitUsage},
		{args: "drain endpoint", code: exitUsage},
		{args: "drain endpoint a b", code: exitUsage},
		{args: "drain endpoint a/b/c", code: exitUsage},
		{args: "drain endpoint web:80", code: exitUsage},
		{args: "drain endpoint web -s /x", code: exitUsage},
		{args: "drain endpoint web --wait --timeout=-1s", code: exitUsage},
		{args: "drain node", code: exitUsage},
	} {
		socket, asked := draining(t, c.conns)
		out, said, err := executed(t, slices.Concat(strings.Fields(c.args), []string{"--admin-socket=" + socket}))
		if err != nil {
			said += err.Error()
		}
		if codeOf(err) != c.code || c.out != "" && out != c.out[1:] || !strings.Contains(said, c.says) {
			t.Errorf("usher %s: exit code %d\n%s%s", c.args, codeOf(err), out, said)
		}
		if got := strings.Join(*asked, " "); got != c.asks {
			t.Errorf("usher %s asks for %s", c.args, got)
		}
	}
}
