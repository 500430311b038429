package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/cmd/usher/cli"
)

func TestEveryCommandHasAPage(t *testing.T) {
	dir := written(t)
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		page := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		if text := read(t, dir, "man", page); !strings.Contains(text, cmd.Short) {
			t.Errorf("%s does not say %q", page, cmd.Short)
		}
		for _, c := range cmd.Commands() {
			look(c)
		}
	}
	look(cli.Command(nil))
}

func TestTheConfigurationPageHasEveryKey(t *testing.T) {
	page := read(t, written(t), "man", "usher-config.5")
	for _, k := range cli.Keys(nil) {
		if !strings.Contains(page, "\n\\fB"+k.Name+"\\fP: ") {
			t.Errorf("nothing about %s", k.Name)
		}
	}
	for _, want := range []string{"(default: 0x20/0x20)", "withKubeProxy\\fP: true or false", "HOW CONNECTIONS GET HERE"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestShellsCompleteUsher(t *testing.T) {
	dir := written(t)
	for file, want := range map[string]string{
		"usher.bash": "__start_usher usher", "_usher": "#compdef usher", "usher.fish": "complete -c usher",
	} {
		if !strings.Contains(read(t, dir, "completions", file), want) {
			t.Errorf("%s has no %q", file, want)
		}
	}
}

// Nothing of who writes it gets into what is written.
func TestPagesAreTheSameEverywhere(t *testing.T) {
	first := written(t)
	t.Setenv("TZ", "Pacific/Kiritimati")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	second := written(t)
	files, err := filepath.Glob(first + "/*/*")
	if err != nil || len(files) == 0 {
		t.Fatal("nothing was written", err)
	}
	for _, f := range files {
		name, _ := filepath.Rel(first, f)
		if read(t, first, name) != read(t, second, name) {
			t.Errorf("%s is another one", name)
		}
	}
	page := read(t, first, "man", "usher-status.1")
	for _, want := range []string{`"Dec 2025"`, "usher v7", "/run/usher/usher.sock"} {
		if !strings.Contains(page, want) {
			t.Errorf("usher-status.1 has no %s", want)
		}
	}
}

func TestADateThatIsNone(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if err := write(t.TempDir(), "v7"); err == nil || !strings.Contains(err.Error(), "seconds since 1970") {
		t.Errorf("got %v", err)
	}
}

// written is a directory with all there is, of the last second of a month in UTC.
func written(t *testing.T) string {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1767225599")
	dir := t.TempDir()
	if err := write(dir, "v7"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
