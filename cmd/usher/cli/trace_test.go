package cli

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier/admin"
)

func TestTrace(t *testing.T) {
	var asked url.Values
	socket := socketOf(t, admin.API{Feeds: map[string]admin.Feed{"/v1/trace": {
		Parameters: []string{"client", "namespace", "service", "duration"}, Change: true,
		Run: func(_ context.Context, q url.Values, send func([]byte) error) error {
			if asked = q; q.Get("duration") == "59m0s" {
				return &admin.Error{Status: 429, Message: "there are 8 traces already"}
			}
			for _, line := range []string{
				`{"event":"begin","text":"tracing"}`,
				`{"id":"1-1","ms":0.01,"event":"accepted","namespace":"default","service":"web","client":"10.1.1.1:9","text":"accepted"}`,
				`{"id":"1-1","ms":1.5,"event":"result","endpoint":"10.0.0.1:80","pod":"default/\u001bweb","errno":"ECONNREFUSED","text":"refused","lost":2}`,
				`{"event":"end","text":"30s are over"}`,
			} {
				if err := send([]byte(line + "\n")); err != nil {
					return err
				}
			}
			return nil
		},
	}}})
	out, said, err := executed(t, []string{"trace", "--from", "10.1.0.0/16", "--to-service", "web", "-n", "shop", "--duration=1m", "--admin-socket=" + socket})
	want := `
1-1                 0.010  accepted      10.1.1.1:9 -> default/web: accepted
1-1                 1.500  result        10.0.0.1:80 (pod default/?web): refused (ECONNREFUSED)
`
	if out != want[1:] || said != "tracing.\n2 events were lost here.\n30s are over.\n" || err != nil {
		t.Errorf("%v: it prints\n%s%s", err, out, said)
	}
	if asked.Encode() != "client=10.1.0.0%2F16&duration=1m0s&namespace=shop&service=web" {
		t.Errorf("it asks for %s", asked.Encode())
	}
	if out, _, err := executed(t, []string{"trace", "-o", "json", "--admin-socket=" + socket}); err != nil || strings.Count(out, "\n") != 4 || strings.Contains(out, "\x1b") {
		t.Errorf("%v: as JSON it prints\n%s", err, out)
	}
	if _, _, err := executed(t, []string{"trace", "--duration=59m", "--admin-socket=" + socket}); codeOf(err) != exitFailed || !strings.Contains(err.Error(), "8 traces already") {
		t.Errorf("too many: %v", err)
	}
	for _, args := range [][]string{{"web"}, {"--duration=0s"}, {"--duration=61m"}, {"--from=me"}, {"--to-service=/web"}, {"-o", "xml"}} {
		if _, _, err := executed(t, slices.Concat([]string{"trace", "--admin-socket=" + socket}, args)); codeOf(err) != exitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, _, err := executed(t, []string{"trace", "--admin-socket=" + socket + "x"}); codeOf(err) != exitUnreachable {
		t.Errorf("nobody: %v", err)
	}
}
