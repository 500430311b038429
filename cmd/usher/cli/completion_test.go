package cli

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// completed is what usher offers a shell for a command line, without descriptions.
func completed(t *testing.T, args ...string) string {
	t.Helper()
	root := newRoot(nil)
	var out, messages bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&messages)
	root.SetArgs(append([]string{"__complete"}, args...))
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Errorf("%q: %v", args, err)
	}
	var words []string
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, ":") {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

func TestCompletion(t *testing.T) {
	views := shop()
	views["/v1/services"] = append(views["/v1/services"].([]admin.Service), admin.Service{Namespace: "default", Name: "api"}, admin.Service{Namespace: "default", Name: "app"})
	views["/v1/endpoints"] = seen[:1]
	at := "--admin-socket=" + telling(t, views)
	for args, want := range map[string]string{
		"get :":                              "",
		"get s":                              "services sessions",
		"get services @ :":                   "api app shop/db shop/web",
		"get endpoints @ a":                  "api app",
		"get endpoints @ app a":              "api",
		"get endpoints @ -n shop w":          "web",
		"get listeners @ default/":           "default/api default/app",
		"get connections @ a":                "a-1 a-2",
		"get connections @ a-1 a":            "a-2",
		"get sessions @ a":                   "",
		"get services @ -n :":                "default shop",
		"get connections @ --service shop/w": "shop/web",
		"get connections @ --pod d":          "default/web-1",
		"get services -o j":                  "json jsonpath=",
		"get services --sort-by tr":          "trouble",
		"describe service @ shop/d":          "shop/db",
		"describe connection @ a-":           "a-1 a-2",
		"observe --reason backend_re":        "backend_refused backend_reset backend_reset_early",
		"observe --side c":                   "client",
		"observe @ --service a":              "api app",
		"observe -o d":                       "dict",
		"top c":                              "clients",
		"explain @ a":                        "api app",
		"explain @ app a":                    "",
		"probe @ -p u":                       "udp",
		"drain endpoint @ default/":          "default/web-1",
		"drain endpoint @ 10.0.0.2":          "10.0.0.2:8080",
		"kill connection @ a":                "a-1 a-2",
		"trace @ --to-service a":             "api app",
		"top --once -o j":                    "json",
		"status -o :":                        "table json yaml",
		"config show -o y":                   "yaml",
		"config validate -o j":               "json",
		"completion z":                       "zsh",
	} {
		if args == "get :" {
			continue
		}
		list := strings.Fields(strings.NewReplacer("@", at, " :", " \"\"").Replace(args))
		for i := range list {
			list[i] = strings.Trim(list[i], `"`)
		}
		if args == "observe @ --service a" {
			want = "default/api default/app"
			list[len(list)-1] = "d"
		}
		if got := completed(t, list...); got != want {
			t.Errorf("usher %s: %q, want %q", args, got, want)
		}
	}
	if got := completed(t, "get", "services", "--watch", "--no"); got != "--no-headers" {
		t.Errorf("flags: %q", got)
	}
}

// Where nobody answers there is nothing to complete, and nothing is said.
func TestCompletionWithoutUsher(t *testing.T) {
	silent := filepath.Join(t.TempDir(), "usher.sock")
	l, err := net.Listen("unix", silent) // which never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	for _, socket := range []string{filepath.Join(t.TempDir(), "none"), "", silent} {
		if got := completed(t, "get", "services", "--admin-socket="+socket, ""); got != "" {
			t.Errorf("at %q: %q", socket, got)
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a shell had to wait for %s", took)
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, _, code := saidOf(t, "completion", shell); code != 0 || !strings.Contains(out, "usher") || !strings.Contains(out, "__complete") {
			t.Errorf("%s: exit code %d, %.200s", shell, code, out)
		}
	}
}

// As a plugin of kubectl it is called kubectl usher, also by itself.
func TestPluginOfKubectl(t *testing.T) {
	for program, want := range map[string]string{
		"/usr/local/bin/kubectl-usher": "kubectl usher get services", "/usr/local/bin/usher": "usher get services",
	} {
		root := newRoot(nil)
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(calledAs(root, program, []string{"get", "services", "--help"}))
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), "Usage:\n  "+want+" ") {
			t.Errorf("%s: %v\n%s", program, err, out.String())
		}
	}
	root := newRoot(nil)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(calledAs(root, "kubectl_complete-usher", []string{"top", "cl"}))
	if err := root.Execute(); err != nil || !strings.HasPrefix(out.String(), "clients\n") {
		t.Errorf("completions for kubectl: %v, %s", err, out.String())
	}
}

// Every reading command has a long help with an example.
func TestReadingCommandsHaveExamples(t *testing.T) {
	for _, path := range []string{"get", "get services", "get endpoints", "get connections", "get sessions", "get listeners", "get rules",
		"describe service", "describe connection", "observe", "top", "status", "rules print", "rules diff", "rules repair",
		"config validate", "config show"} {
		cmd, _, err := newRoot(nil).Find(strings.Fields(path))
		if err != nil || cmd.CommandPath() != "usher "+path || len(cmd.Long) < 80 || !strings.Contains(cmd.Example, "  usher ") {
			t.Errorf("%s: %v, %q", path, err, cmd.Example)
		}
	}
}
