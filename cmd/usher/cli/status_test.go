package cli

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

func statusOf(t *testing.T, s admin.Status, args ...string) (out string, err error) {
	t.Helper()
	socket := adminSocket(t, map[string]admin.View{"/v1/status": {Show: func(url.Values) (any, error) { return s, nil }}}, nil)
	out, messages, err := executed(t, append(append([]string{"status"}, args...), "--admin-socket="+socket))
	return out + messages, err
}

func TestStatus(t *testing.T) {
	s := admin.Status{Version: "v1.0.0", Node: "node-1", Capture: "bind", CaptureWhy: "because iptables cannot be used: \x1b", Families: []string{"IPv4", "IPv6"},
		Ready: true, Ports: 12, Connections: 3, UDPSessions: 4}
	out, err := statusOf(t, s)
	if want := `
STATE           serving
VERSION         v1.0.0
NODE            node-1
CAPTURE         bind, because iptables cannot be used: ?
FAMILIES        IPv4, IPv6
SERVICE PORTS   12
CONNECTIONS     3
UDP SESSIONS    4
`; out != want[1:] || err != nil {
		t.Errorf("it says, with %v,\n%s", err, out)
	}
	s.Ready = false
	if out, err = statusOf(t, s, "-o", "json"); err == nil || !strings.Contains(out, `"ready": false`) {
		t.Errorf("it says, with %v,\n%s", err, out)
	}
	if out, err = statusOf(t, s, "-o", "yaml"); err == nil || !strings.Contains(out, "capture: bind\n") {
		t.Errorf("it says, with %v,\n%s", err, out)
	}
	if _, err = statusOf(t, s, "-o", "xml"); !isUsage(err) {
		t.Errorf("xml: %v", err)
	}
}

// A status is degraded when something is wrong now, and says what in one screen.
func TestDegradedStatus(t *testing.T) {
	written := time.Now().Add(-time.Minute)
	well := admin.Status{Version: "v1", Node: "node-1", Started: time.Now().Add(-50 * time.Hour), Ready: true, Source: "manifests", Rules: admin.Rules{Written: &written},
		Files: admin.Gauge{Used: 10, Limit: 1000}, Ring: admin.Ring{Held: 5, Size: 10, Lost: 1}, Log: admin.Log{Dropped: 2}, RecentSeconds: 300,
		Recent: []admin.ReasonCount{{Reason: "backend_refused", Code: "SC", Side: "backend", Text: "the endpoint refused", Count: 7, Trouble: 6}}}
	asOf := time.Now().Add(-10 * time.Minute)
	silent, started, unkept := well, well, well
	silent.StaleSeconds = 240
	started.StaleSeconds, started.LastState = 600, &admin.LastState{File: "/var/lib/usher/kept", Served: true, AsOf: &asOf}
	unkept.LastState = &admin.LastState{File: "/var/lib/usher/kept", Failing: "no space left on device"}
	failing := well
	failing.Rules.Failing = "iptables-restore: no room"
	some := func(severity string, n int) []admin.Attention {
		return slices.Repeat([]admin.Attention{{Severity: severity, Kind: "Service", Namespace: "shop", Name: "web", Reason: "NoEndpoints", Message: "none is ready"}}, n)
	}
	for _, c := range []struct {
		about     string
		status    admin.Status
		attention []admin.Attention
		fails     error
		says      []string
	}{
		{"all is well", well, nil, nil, []string{"STATE           serving\n", "UP FOR          2d2h\n", "OBJECTS         manifests\n", "RULES           written 60s ago\n",
			"OPEN FILES      10 of 1000 (1%)\n", "5 of 10 held; lost: 1 by followers, 2 by the log\n", "ENDED IN THE LAST 5M:", "7       6         backend_refused   SC     backend   the endpoint refused\n"}},
		{"a warning is no fault", well, some("warning", 1), nil, []string{"serving\n", "ATTENTION (1):\n  warning   Service shop/web   NoEndpoints   none is ready\n"}},
		{"the API server is silent", silent, nil, nil, []string{"STATE           serving, but stale: what was known 4m ago\n"}},
		{"the API server was never heard", started, nil, nil, []string{
			"STATE           serving, but stale: the last state, which was known 10m ago\n", "LAST STATE      /var/lib/usher/kept, of 10m ago; it is served\n"}},
		{"the last state cannot be kept", unkept, nil, nil, []string{
			"STATE           serving\n", "LAST STATE      /var/lib/usher/kept, not written yet; failing: no space left on device\n"}},
		{"rules fail", failing, nil, errDegraded, []string{"degraded: rules cannot be written: iptables-restore: no room\n"}},
		{"clients miss something", well, some("error", 12), errDegraded, []string{"degraded: clients miss something now (12)\n", "ATTENTION (12):\n", "  and 2 more"}},
	} {
		socket := telling(t, map[string]any{"/v1/status": c.status, "/v1/attention": c.attention})
		out, _, err := executed(t, []string{"status", "--admin-socket=" + socket})
		if !errors.Is(err, c.fails) {
			t.Errorf("%s: it fails with %v, want %v", c.about, err, c.fails)
		}
		for _, want := range c.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: it does not say %q:\n%s", c.about, want, out)
			}
		}
		if n := strings.Count(out, "NoEndpoints"); n > shownAttention {
			t.Errorf("%s: it tells %d that want attention", c.about, n)
		}
	}
}

func TestStatusForPrograms(t *testing.T) {
	views := map[string]any{"/v1/status": admin.Status{Ready: true}, "/v1/attention": []admin.Attention{{Severity: "warning", Reason: "FewFiles"}}}
	out, _, err := executed(t, []string{"status", "-o", "json", "--admin-socket=" + telling(t, views)})
	var got fullStatus
	if json.Unmarshal([]byte(out), &got) != nil || err != nil || got.State != "serving" || len(got.Attention) != 1 || got.Attention[0].Reason != "FewFiles" {
		t.Errorf("it says, with %v, %s", err, out)
	}
}
