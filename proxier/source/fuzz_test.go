package source

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever a file holds, decode returns: objects that are complete, and
// problems on lines that the file has.
func FuzzDecode(f *testing.F) {
	seeds := []string{
		"", "---", "...", "\xef\xbb\xbf", "\x00", "\t", "a: &a [*a]", "a: *b", "? [a]\n: b", "!!binary x", "%YAML 1.1\n---\n",
		good, goodSlice, good + "---\n" + goodSlice, strings.ReplaceAll(good, "\n", "\r\n"), bomb(),
		"{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"kind\": \"Service\"}, 3]}",
		"apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 1}]}]\n",
		"apiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {a: b}, creationTimestamp: 2024-01-01}\nstatus: {capacity: {cpu: 1}}\n",
		strings.Replace(good, "80", ".inf", 1), strings.Replace(good, "80", "!!str 80", 1), strings.Replace(good, "web", "!x web", 1),
	}
	corpus, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range corpus {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, string(content))
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		objects, problems := decode("f", content, ordinaryServices())
		last := bytes.Count(content, []byte("\n")) + 1
		// YAML counts more characters as the end of a line.
		last += bytes.Count(content, []byte("\r")) + bytes.Count(content, []byte("\u0085")) +
			bytes.Count(content, []byte("\u2028")) + bytes.Count(content, []byte("\u2029"))
		for _, o := range objects {
			if o.id.name == "" || o.line < 1 || o.line > last {
				t.Errorf("object %+v of a file with %d lines", o, last)
			}
			if o.service != nil && (o.service.ResourceVersion == "" || len(o.claims) == 0 && o.service.Spec.Type != "ExternalName") {
				t.Errorf("Service %+v without the marks or claims of one", o.service)
			}
		}
		for _, p := range problems {
			if p.message == "" || p.line < 1 || p.line > last {
				t.Errorf("problem %q on line %d of a file with %d lines", p, p.line, last)
			}
		}
	})
}
