package cli

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier/admin"
)

// explaining is a usher that explains every question by x, and tells what it was asked.
func explaining(t *testing.T, x any, failure error) (socket string, asked *url.Values) {
	t.Helper()
	asked = new(url.Values)
	return adminSocket(t, map[string]admin.View{"/v1/explain": {
		Parameters: []string{"namespace", "service", "port", "protocol", "family", "from", "vip"},
		Show:       func(q url.Values) (any, error) { *asked = q; return x, failure },
	}}, nil), asked
}

var explanation = admin.Explanation{
	Namespace: "default", Service: "web", VIP: "10.96.0.1:80", Answer: "serve", Verdict: "It would be served by one of 2.\x1b[2J",
	Steps: []admin.Step{
		{Name: "address", Result: "ok", Text: "10.96.0.1:80 is the ClusterIP"},
		{Name: "rule", Result: "ok", Text: "the kernel leads it to usher", Evidence: []string{"-A USHER-SERVICES \x1b -j REDIRECT"}},
		{Name: "seen-as", Result: "note", Text: "the endpoint sees this node"},
	},
	Candidates: []admin.Candidate{
		{EndpointStatus: admin.EndpointStatus{Address: "10.0.0.1:8080", Pod: "default/web-1", State: admin.In, Why: "ready"}, Order: 1, Share: 0.5},
		{EndpointStatus: admin.EndpointStatus{Address: "10.0.0.2:8080", State: admin.Out, Why: "not ready"}},
	},
}

func TestExplain(t *testing.T) {
	socket, asked := explaining(t, explanation, nil)
	out, said, err := executed(t, []string{"explain", "shop/web:http", "-p", "tcp", "--from", "10.1.1.1", "--vip", "1.2.3.4", "--admin-socket=" + socket})
	want := `
 1. ok    address    10.96.0.1:80 is the ClusterIP
 2. ok    rule       the kernel leads it to usher
                     -A USHER-SERVICES ? -j REDIRECT
 3. note  seen-as    the endpoint sees this node

ENDPOINT        POD             NODE     STATE   ORDER    SHARE    WHY
10.0.0.1:8080   default/web-1   <none>   in      1        50.0%    ready
10.0.0.2:8080   <none>          <none>   out     <none>   <none>   not ready

It would be served by one of 2.?[2J
`
	if out != want[1:] || said != "" || err != nil {
		t.Errorf("%v: it prints\n%s%s", err, out, said)
	}
	if want := "from=10.1.1.1&namespace=shop&port=http&protocol=tcp&service=web&vip=1.2.3.4"; asked.Encode() != want {
		t.Errorf("it asks for %s", asked.Encode())
	}
	for _, format := range []string{"json", "yaml"} {
		if out, _, err := executed(t, []string{"explain", "web", "-o", format, "--admin-socket=" + socket}); err != nil || !strings.Contains(out, "USHER-SERVICES") || strings.Contains(out, "\x1b") {
			t.Errorf("%s: %v %s", format, err, out)
		}
	}
}

func TestExplainTellsByItsExitCode(t *testing.T) {
	refused := explanation
	refused.Answer = "refuse"
	for _, c := range []struct {
		about string
		x     any
		fails error
		code  int
	}{
		{"served", explanation, nil, 0},
		{"refused", refused, nil, exitFailed},
		{"no such Service", nil, &admin.Error{Status: 404, Message: "usher serves no Service default/web"}, exitNotFound},
		{"no clear question", nil, &admin.Error{Status: 400, Message: "several ports"}, exitUsage},
	} {
		socket, _ := explaining(t, c.x, c.fails)
		_, _, err := executed(t, []string{"explain", "web", "--admin-socket=" + socket})
		if got := codeOf(err); got != c.code {
			t.Errorf("%s: exit code %d, %v", c.about, got, err)
		}
	}
}

// codeOf is the exit code that usher ends with.
func codeOf(err error) int {
	switch {
	case err == nil:
		return 0
	case isUsage(err):
		return exitUsage
	}
	return exitCode(err)
}

func TestExplainWrongly(t *testing.T) {
	socket, _ := explaining(t, explanation, nil)
	for _, args := range [][]string{
		{}, {"web", "api"}, {"web:"}, {"/web"}, {"a/b/c"}, {"web", "-o", "xml"}, {"web", "--from=me"}, {"web", "-p", "sctp"}, {"web", "--nonsense"}, {""},
	} {
		if _, _, err := executed(t, slices.Concat([]string{"explain", "--admin-socket=" + socket}, args)); codeOf(err) != exitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
}
