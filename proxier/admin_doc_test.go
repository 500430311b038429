package proxier

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The package comment of admin lists every path with its method and all its parameters.
func TestAdminAPIIsDocumented(t *testing.T) {
	var p Proxier
	served := map[string][]string{}
	for path, v := range p.views() {
		served["GET "+path] = v.Parameters
	}
	for path, a := range p.actions() {
		served["POST "+path] = a.Parameters
	}
	for path, f := range p.feeds() {
		method := "GET "
		if f.Change {
			method = "POST "
		}
		served[method+path] = f.Parameters
	}
	for path, e := range p.exchanges() {
		served["POST "+path] = e.Parameters
	}
	text, err := os.ReadFile("admin/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line, isExample := strings.CutPrefix(line, "//\t")
		words := strings.Fields(line)
		if !isExample || len(words) < 2 || !strings.HasPrefix(words[1], "/v1/") {
			continue
		}
		path := words[0] + " " + words[1]
		parameters, known := served[path]
		if !known {
			t.Errorf("%s is documented, and not served", path)
		}
		told := words[2:]
		answer := slices.IndexFunc(told, func(word string) bool { return word != strings.ToLower(word) || word == "feed" })
		told = told[:max(answer, 0)]
		slices.Sort(told)
		parameters = slices.Sorted(slices.Values(parameters))
		if !slices.Equal(told, parameters) {
			t.Errorf("%s has the parameters %q, documented are %q", path, parameters, told)
		}
		delete(served, path)
	}
	for path := range served {
		t.Errorf("%s is not documented", path)
	}
}
