package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files of usher config lint")

// linted is what usher config lint writes in the folder testdata/lint, and how it
// ends.
func linted(t *testing.T, stdin string, args ...string) (out string, err error) {
	t.Helper()
	t.Chdir(filepath.Join("testdata", "lint"))
	var b strings.Builder
	cmd := newConfigLint(nil)
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&b)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.Execute()
	return b.String(), err
}

func TestConfigLint(t *testing.T) {
	list, err := os.ReadFile("testdata/lint/manifests/list.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args  string
		stdin string
	}{
		"good":      {args: "good.yaml good-usher.yaml ../kubeadm.yaml"},
		"folder":    {args: "manifests"},
		"policy":    {args: "--policy=other --policy by-tenant manifests/list.yaml"},
		"twice":     {args: "manifests/list.yaml ./manifests/../manifests/list.yaml"},
		"same":      {args: "good.yaml -", stdin: "# another file\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n"},
		"stdin":     {args: "-", stdin: string(list)},
		"unknown":   {args: "usher.yaml"},
		"bounds":    {args: "bounds.yaml"},
		"syntax":    {args: "syntax.yaml"},
		"kubeproxy": {args: "kubeproxy.yaml"},
		"config":    {args: "-", stdin: header + "retries: 9\n"},
		"nowhere":   {args: "nowhere.yaml good.yaml"},
		"nothing":   {args: "-", stdin: "# nothing\n"},
		"several":   {args: "usher.yaml manifests good.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			golden, err := filepath.Abs(filepath.Join("testdata", "lint", name+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := linted(t, c.stdin, strings.Fields(c.args)...)
			got += fmt.Sprintf("error: %v\n", err)
			if *update {
				write(t, golden, got)
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestConfigLintOfAnEmptyFolder(t *testing.T) {
	folder := t.TempDir()
	out, err := linted(t, "", folder)
	if want := folder + ": has no *.yaml, *.yml or *.json in it\n"; out != want || err == nil {
		t.Errorf("got %q and %v, want %q", out, err, want)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// Whoever cannot read that all is well is not to think so.
func TestConfigLintThatCannotBeRead(t *testing.T) {
	cmd := newConfigLint(nil)
	cmd.SetArgs([]string{"testdata/lint/good.yaml"})
	cmd.SetOut(brokenPipe{})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.Execute(); err == nil {
		t.Error("no error")
	}
}

func TestConfigLintExitCodes(t *testing.T) {
	for args, want := range map[string]int{
		"config lint testdata/lint/good.yaml":       0,
		"config lint testdata/lint/bounds.yaml":     exitFailed,
		"config lint testdata/lint/manifests":       exitFailed,
		"config lint /nowhere":                      exitFailed,
		"config lint":                               exitUsage,
		"config lint --no-such-flag a":              exitUsage,
		"config lnit testdata/lint/good.yaml":       exitUsage,
		"config lint --policy":                      exitUsage,
		"config lint testdata/lint/good-usher.yaml": 0,
	} {
		if code := run(strings.Fields(args), nil); code != want {
			t.Errorf("usher %s: exit code %d, want %d", args, code, want)
		}
	}
}

// Whatever is in a file, lint tells something about it or about nothing.
func FuzzConfigLint(f *testing.F) {
	files, err := filepath.Glob("testdata/lint/*/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(content))
	}
	for _, seed := range []string{
		header + "retries: 9\n", "kind: [UsherConfiguration]\n", "apiVersion: v1\nkind: List\nitems: &a [*a]\n", "\xff",
		"apiVersion: v1\nkind: Service\nmetadata: {annotations: [a]}\n", "apiVersion: v1\nkind: Service\nmetadata: &m {annotations: *m}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {annotations: {? [a] : b, usher-proxy.io/retries: {a: b}}}\n", "apiVersion: v1\nkind: List\nitems: {a: b}\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		var b strings.Builder
		l := lint{in: strings.NewReader(content), out: &b}
		err := l.run([]string{"-"})
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if err == nil && (len(lines) != 1 || !strings.HasPrefix(lines[0], "no problems in 1 file")) || err != nil && len(lines) != l.problems {
			t.Errorf("%d problems, error %v:\n%s", l.problems, err, b.String())
		}
		for _, line := range lines {
			if err != nil && !strings.HasPrefix(line, stdin) {
				t.Errorf("a line that does not name the file: %q", line)
			}
		}
	})
}
