package cli

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier/admin"
)

// rulesOf runs usher rules against a usher that finds these differences, of which the
// last one cannot be repaired if stubborn.
func rulesOf(t *testing.T, stubborn bool, differences []admin.RuleDifference, args ...string) (out, messages string, err error) {
	t.Helper()
	repair := admin.Repair{Repaired: differences}
	if n := len(differences); stubborn {
		repair = admin.Repair{Repaired: differences[:n-1], Left: differences[n-1:]}
	}
	socket := adminSocket(t, map[string]admin.View{
		"/v1/rules": {Show: func(url.Values) (any, error) {
			return []admin.CapturedBy{{Family: "IPv4", Text: "*nat\nCOMMIT\n"}}, nil
		}},
		"/v1/rules/diff": {Show: func(url.Values) (any, error) { return differences, nil }},
	}, map[string]admin.Action{
		"/v1/rules/repair": {Do: func(context.Context, url.Values) (any, error) { return repair, nil }},
	})
	return executed(t, append(append([]string{"rules"}, args...), "--admin-socket="+socket))
}

func TestRules(t *testing.T) {
	missing := admin.RuleDifference{Family: "IPv4", Text: "nat USHER-SERVICES: missing -d 10.0.0.1/32"}
	strange := admin.RuleDifference{Family: "IPv6", Text: "too much: \x1b[31m"}
	for _, c := range []struct {
		about     string
		stubborn  bool
		found     []admin.RuleDifference
		args      []string
		out, said string
		fails     string
	}{
		{"print", false, nil, []string{"print"}, "# IPv4\n*nat\nCOMMIT\n", "", ""},
		{"nothing is different", false, nil, []string{"diff"}, "", "", ""},
		{"something is", false, []admin.RuleDifference{missing, strange}, []string{"diff"}, "IPv4: nat USHER-SERVICES: missing -d 10.0.0.1/32\nIPv6: too much: ?[31m\n", "", "not as usher wants it"},
		{"repaired", false, []admin.RuleDifference{missing}, []string{"repair"}, "repaired: IPv4: nat USHER-SERVICES: missing -d 10.0.0.1/32\n", "", ""},
		{"nothing to repair", false, nil, []string{"repair"}, "", "Everything is as it should be.\n", ""},
		{"not all of it", true, []admin.RuleDifference{strange, missing}, []string{"repair"},
			"repaired: IPv6: too much: ?[31m\nleft: IPv4: nat USHER-SERVICES: missing -d 10.0.0.1/32\n", "", "could not be repaired"},
		{"too many words", false, nil, []string{"print", "IPv4"}, "", "", "unexpected argument"},
	} {
		t.Run(c.about, func(t *testing.T) {
			out, said, err := rulesOf(t, c.stubborn, c.found, c.args...)
			if out != c.out || said != c.said {
				t.Errorf("it prints %q and says %q", out, said)
			}
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("it fails with %v", err)
			}
		})
	}
}
