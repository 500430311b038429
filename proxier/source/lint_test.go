package source

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// findings are those of files, in one text.
func findings(t *testing.T, files ...File) string {
	t.Helper()
	var all []string
	for _, f := range Lint(files, func(said map[string]string, tell func(key, message string)) {
		for _, key := range slices.Sorted(maps.Keys(said)) {
			tell(key, key+" is "+said[key])
		}
	}) {
		all = append(all, f.String())
	}
	return strings.Join(all, "\n")
}

func TestLint(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}\n"
	named := func(name string) []byte { return []byte(strings.ReplaceAll(service, "NAME", name)) }
	for name, c := range map[string]struct {
		files []File
		want  string
	}{
		"a Service on its way to an API server": {[]File{{"a", named("web")}}, ""},
		"defined twice": {[]File{{"b", named("web")}, {"a", named("web")}},
			"a:1: Service default/web: is defined in b:1 already, which counts: remove one of them"},
		"two claim a NodePort": {[]File{{"a", append(named("web"), append([]byte("---\n"), named("shop")...)...)}},
			"a:9: Service default/shop: spec.ports[0].nodePort: nodePort 30080/TCP belongs to the Service default/web (a:1)"},
		"annotations, by line": {[]File{{"a", []byte("# first\n---\n" + `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata:
    annotations: {b: 2, a: "1"}
    namespace: shop
    name: web
  spec: {ports: [{port: 80}]}
`)}}, "a:9: Service shop/web: items[0].metadata.annotations[b]: must be a text, not the number 2: put it in quotes\n" +
			"a:9: Service shop/web: a is 1\n" +
			"a:9: Service shop/web: b is 2"},
		"annotations of Services that are bad, headless or of another proxy": {[]File{{"a", []byte(`apiVersion: v1
kind: Service
metadata: {name: web, annotations: {a: bad}}
spec: {ports: []}
---
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {a: headless}}
spec: {clusterIP: None}
---
apiVersion: v1
kind: Service
metadata: {name: other, labels: {service.kubernetes.io/service-proxy-name: x}, annotations: {a: other}}
spec: {ports: [{port: 80}]}
`)}}, "a:3: Service web: a is bad\n" +
			"a:4: Service web: spec.ports: needs at least one port\n" +
			"a:8: Service web: a is headless\n" +
			"a:13: Service other: a is other"},
		"in the order of the files": {[]File{{"b", []byte("\n\n\n---\n- b")}, {"a", []byte("- a")}},
			"b:5: must be a Kubernetes object, not a list\na:1: must be a Kubernetes object, not a list"},
		"other kinds": {[]File{{"a", []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {annotations: {a: b}}\n")}}, ""},
	} {
		if got := findings(t, c.files...); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestReadFiles(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"b.yaml", "a.json", "c.txt"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, faults := ReadFiles(folder)
	if len(faults) > 0 || len(files) != 2 || files[0].Name != filepath.Join(folder, "a.json") || string(files[1].Content) != "b.yaml" {
		t.Errorf("got %v and %v", files, faults)
	}
	if files, faults := ReadFiles(filepath.Join(folder, "c.txt")); len(faults) > 0 || len(files) != 1 {
		t.Errorf("a file of another name: got %v and %v", files, faults)
	}
	for path, want := range map[string]string{
		folder + "/none": folder + "/none: cannot be read: no such file or directory",
		t.TempDir():      "has no *.yaml, *.yml or *.json in it",
		"/dev/null":      "/dev/null: is no regular file",
	} {
		if files, faults := ReadFiles(path); len(files) > 0 || len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
			t.Errorf("%s: got %v and %v", path, files, faults)
		}
	}
}
