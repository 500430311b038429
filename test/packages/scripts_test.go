package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the maintainer scripts do on a system that systemd has booted, for dpkg and for rpm.
func TestMaintainerScripts(t *testing.T) {
	const (
		made    = "systemd-sysusers usher.conf; systemd-tmpfiles --create usher.conf; systemctl daemon-reload"
		reload  = "; systemctl try-reload-or-restart usher.service"
		removed = "systemctl --no-reload disable --now usher.service; usher status"
	)
	for _, c := range []struct {
		what, call string
		usher      string // exit code of usher status
		want       string
	}{
		{"installed by dpkg: it does not start", "postinstall configure", "2", made},
		{"installed by rpm: it does not start", "postinstall 1", "2", made},
		{"upgraded by dpkg: what runs goes on as the new one", "postinstall configure 1.0", "0", made + reload},
		{"upgraded by rpm: what runs goes on as the new one", "postinstall 2", "0", made + reload},
		{"dpkg is about to upgrade", "preremove upgrade 1.1", "0", ""},
		{"rpm has upgraded", "preremove 1", "0", ""},
		{"removed by dpkg", "preremove remove", "2", removed + "; usher cleanup"},
		{"removed by rpm", "preremove 0", "2", removed + "; usher cleanup"},
		{"removed while a DaemonSet's usher serves", "preremove remove", "0", removed},
		{"removed while a DaemonSet's usher serves, not well", "preremove remove", "1", removed},
		{"dpkg has removed it", "postremove remove", "2", "systemctl daemon-reload"},
		{"rpm has removed it", "postremove 0", "2", "systemctl daemon-reload"},
	} {
		t.Run(c.what, func(t *testing.T) {
			booted(t)
			if got := calls(t, c.call, "STATUS="+c.usher); got != c.want {
				t.Errorf("%s\n called %s\n want   %s", c.call, got, c.want)
			}
		})
	}
}

// In the root of an image, or of a container, nobody runs the unit, and what is in the
// kernel is the machine's.
func TestMaintainerScriptsWhereSystemdDoesNotRun(t *testing.T) {
	for call, want := range map[string]string{
		"postinstall configure":     "systemd-sysusers usher.conf",
		"postinstall configure 1.0": "systemd-sysusers usher.conf",
		"preremove remove":          "systemctl --no-reload disable usher.service",
		"postremove remove":         "",
	} {
		if got := calls(t, call); got != want {
			t.Errorf("%s called %s, want %s", call, got, want)
		}
	}
}

// A reload that the new version does not pass leaves the old one running and the package
// installed.
func TestAnUpgradeThatFailsIsTold(t *testing.T) {
	booted(t)
	out, err := script(t, "postinstall configure 1.0", "RELOAD=1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "still the version before") {
		t.Errorf("the script says %v: %s", err, out)
	}
}

// booted has the scripts believe that systemd runs. /run is the tests' own.
func booted(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll("/run/systemd") })
}

// calls are those that a script makes to other programs.
func calls(t *testing.T, call string, env ...string) string {
	t.Helper()
	cmd := script(t, call, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", call, err, out)
	}
	list, _ := os.ReadFile(filepath.Join(cmd.Dir, "calls"))
	return strings.ReplaceAll(strings.TrimSpace(string(list)), "\n", "; ")
}

// script is a maintainer script with its arguments, in a directory where the programs that
// it calls write down that they were called.
func script(t *testing.T, call string, env ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	for name, answer := range map[string]string{
		"systemd-sysusers": "", "systemd-tmpfiles": "",
		"systemctl": `case $1 in try-*) exit ${RELOAD:-0} ;; esac`,
		"usher":     `[ "$1" != status ] || exit $STATUS`,
	} {
		path := filepath.Join(dir, name)
		write(t, path, "#!/bin/sh\necho \"${0##*/} $*\" >>"+dir+"/calls\n"+answer+"\n")
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	name, args, _ := strings.Cut(call, " ")
	file, err := filepath.Abs("../../examples/packages/" + name + ".sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", append([]string{file}, strings.Fields(args)...)...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + dir + ":/usr/bin:/bin"}, env...)
	return cmd
}
