package cli

import (
	"net/url"
	"strings"
	"testing"

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
