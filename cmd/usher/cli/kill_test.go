package cli

import (
	"bytes"
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier/admin"
)

// killing is a usher that ends what it is asked to, and notes that.
func killing(t *testing.T, done admin.Killed) (socket string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	return adminSocket(t, nil, map[string]admin.Action{"/v1/kill": {
		Parameters: []string{"id", "backend", "pod", "client", "service", "namespace", "older", "all", "dry-run"},
		Do: func(_ context.Context, q url.Values) (any, error) {
			*asked = append(*asked, q.Encode())
			if q.Get("client") == "me" {
				return nil, &admin.Error{Status: 400, Message: "want an address"}
			}
			done.DryRun = q.Has("dry-run")
			return done, nil
		},
	}}), asked
}

var killed = admin.Killed{
	Killed: []admin.KilledConnection{{ID: "1-1", Namespace: "default", Service: "web", Client: "10.1.1.1:999", Endpoint: "10.0.0.1:80", Pod: "default/\x1bweb", AgeSeconds: 1.5}},
	Gone:   []admin.KilledConnection{{ID: "1-2"}, {ID: "1-3", Namespace: "default", Service: "web", Reason: "ok"}},
}

func TestKill(t *testing.T) {
	for _, c := range []struct {
		args string
		asks string
		code int
	}{
		{"1-1 1-2 --yes", "id=1-1&id=1-2", 0},
		{"--backend 10.0.0.1:80 --older 1h --yes", "backend=10.0.0.1%3A80&older=1h0m0s", 0},
		{"--pod web-1 --service web -n shop --client 10.0.0.0/8 --yes", "client=10.0.0.0%2F8&pod=shop%2Fweb-1&service=shop%2Fweb", 0},
		{"--all --yes", "all=true", 0},
		{"--all --dry-run", "all=true&dry-run=true", 0},
		{"--client me --yes", "client=me", exitUsage},
		{"--yes", "", exitUsage},
		{"--all 1-1 --yes", "", exitUsage},
		{"--backend web --yes", "", exitUsage},
		{"--pod a/b/c --yes", "", exitUsage},
		{"--older=-1h --yes", "", exitUsage},
		{"--older=old --yes", "", exitUsage},
		{"1-1", "", exitUsage}, // nobody to ask
	} {
		socket, asked := killing(t, killed)
		out, said, err := executed(t, slices.Concat([]string{"kill", "connection", "--admin-socket=" + socket}, strings.Fields(c.args)))
		if got := strings.Join(*asked, " "); got != c.asks || codeOf(err) != c.code {
			t.Errorf("usher kill connection %s asks for %s: exit code %d, %v\n%s%s", c.args, got, codeOf(err), err, out, said)
		}
		result := "killed"
		if strings.Contains(c.args, "dry") {
			result = "would be killed"
		}
		want := "ID    SERVICE       CLIENT         ENDPOINT      POD            AGE      RESULT\n" +
			"1-1   default/web   10.1.1.1:999   10.0.0.1:80   default/?web   1s       " + result + "\n" +
			"1-2   <none>        <none>         <none>        <none>         <none>   gone\n" +
			"1-3   default/web   <none>         <none>        <none>         0s       ended by itself: ok\n"
		if c.code == 0 && out != want {
			t.Errorf("usher kill connection %s prints\n%s", c.args, out)
		}
	}
}

func TestKillAsksFirst(t *testing.T) {
	for answer, want := range map[string]struct {
		asks int
		code int
	}{"y\n": {2, 0}, "YES\n": {2, 0}, "n\n": {1, exitFailed}, "\n": {1, exitFailed}, "": {1, exitFailed}} {
		socket, asked := killing(t, killed)
		k := &killOptions{terminal: func() bool { return true }, service: "web", namespace: "default", admin: adminOptions{socket}}
		cmd := newKillConnection()
		var out, said bytes.Buffer
		cmd.SetIn(strings.NewReader(answer))
		cmd.SetOut(&out)
		cmd.SetErr(&said)
		cmd.SetContext(t.Context())
		err := k.run(cmd, nil)
		if len(*asked) != want.asks || codeOf(err) != want.code || said.String() != "Kill 1 connection? [y/N] " {
			t.Errorf("%q: it asks %q, exit code %d, %v %s", answer, *asked, codeOf(err), err, said.String())
		}
		if want.asks == 2 && (*asked)[1] != "service=default%2Fweb" {
			t.Errorf("%q: it then asks for %s", answer, (*asked)[1])
		}
	}
}

func TestKillOfNothing(t *testing.T) {
	socket, _ := killing(t, admin.Killed{Gone: []admin.KilledConnection{{ID: "1-1"}}})
	if _, _, err := executed(t, []string{"kill", "connection", "1-1", "--yes", "--admin-socket=" + socket}); codeOf(err) != exitNotFound {
		t.Errorf("nothing: %v", err)
	}
	socket, _ = killing(t, admin.Killed{Ending: []admin.KilledConnection{{ID: "1-1"}}})
	if _, _, err := executed(t, []string{"kill", "connection", "1-1", "--yes", "--admin-socket=" + socket}); codeOf(err) != exitFailed {
		t.Errorf("not yet: %v", err)
	}
}
