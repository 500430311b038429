package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// installed are files that every package has, by their modes.
var installed = map[string]fs.FileMode{
	"/usr/bin/usher":                                  0o755,
	"/usr/lib/systemd/system/usher.service":           0o644,
	"/usr/lib/sysusers.d/usher.conf":                  0o644,
	"/usr/lib/tmpfiles.d/usher.conf":                  0o644,
	"/etc/usher/config.yaml":                          0o644,
	"/usr/share/man/man1/usher.1.gz":                  0o644,
	"/usr/share/man/man1/usher-run.1.gz":              0o644,
	"/usr/share/man/man5/usher-config.5.gz":           0o644,
	"/usr/share/bash-completion/completions/usher":    0o644,
	"/usr/share/fish/vendor_completions.d/usher.fish": 0o644,
	"/usr/share/doc/usher/THIRD-PARTY-LICENSES":       0o644,
}

func TestDebInstallUpgradeRemovePurge(t *testing.T) {
	root := newDebRoot(t)
	first := dist(t, "*_"+runtime.GOARCH+".deb")
	root.dpkg("--install", first)
	for file, mode := range installed {
		root.has(file, mode)
	}
	root.has("/usr/share/zsh/vendor-completions/_usher", 0o644)
	if group := read(t, root.dir+"/etc/group"); !strings.Contains("\n"+group, "\nusher:x:") {
		t.Errorf("there is no group usher:\n%s", group)
	}
	if out := run(t, root.dir+"/usr/bin/usher", "version"); !strings.HasPrefix(out, "usher ") {
		t.Errorf("usher version says %s", out)
	}
	root.hasNot("/etc/systemd/system/multi-user.target.wants/usher.service")

	// A configuration that nobody has touched follows the package, with no question.
	second := nextVersion(t, first, "100", "retries: 2")
	root.dpkg("--install", second)
	if text := read(t, root.dir+"/etc/usher/config.yaml"); !strings.HasSuffix(text, "\nretries: 2\n") {
		t.Errorf("the configuration is still the one before:\n%s", text)
	}

	// One that somebody has edited stays, and the package's lies beside it.
	const mine = header + "manifests: [/srv/services]\n"
	write(t, root.dir+"/etc/usher/config.yaml", mine)
	write(t, root.dir+"/etc/usher/kubeconfig", "secret")
	root.dpkg("--force-confold", "--install", nextVersion(t, first, "101", "retries: 5"))
	if text := read(t, root.dir+"/etc/usher/config.yaml"); text != mine {
		t.Errorf("the configuration was not kept:\n%s", text)
	}
	if text := read(t, root.dir+"/etc/usher/config.yaml.dpkg-dist"); !strings.HasSuffix(text, "\nretries: 5\n") {
		t.Errorf("the new configuration is not beside it:\n%s", text)
	}

	state := root.dir + "/var/lib/usher/services"
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	root.dpkg("--remove", "usher")
	for file := range installed {
		if file != "/etc/usher/config.yaml" {
			root.hasNot(file)
		}
	}
	if text := read(t, root.dir+"/etc/usher/config.yaml"); text != mine {
		t.Errorf("the configuration was not kept:\n%s", text)
	}
	root.has("/var/lib/usher/services", fs.ModeDir|0o700)

	root.dpkg("--purge", "usher")
	root.hasNot("/etc/usher/config.yaml")
	root.hasNot("/var/lib/usher")
	root.hasNot("/var/log/usher")
	root.has("/etc/usher/kubeconfig", 0o644) // it is somebody else's
}

// debRoot is a directory that dpkg takes for a system.
type debRoot struct {
	t   *testing.T
	dir string
}

func newDebRoot(t *testing.T) debRoot {
	t.Helper()
	program(t, "dpkg")
	dist(t, "*_"+runtime.GOARCH+".deb")
	r := debRoot{t, t.TempDir()}
	for _, dir := range []string{"/etc", "/var/lib/dpkg/info", "/var/lib/dpkg/updates"} {
		if err := os.MkdirAll(r.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, r.dir+"/var/lib/dpkg/status", "")
	write(t, r.dir+"/var/lib/dpkg/available", "")
	return r
}

// dpkg runs it with the maintainer scripts outside of the root, which they get as $DPKG_ROOT.
func (r debRoot) dpkg(args ...string) {
	r.t.Helper()
	cmd := exec.Command(program(r.t, "dpkg"), append([]string{
		"--root=" + r.dir, "--force-script-chrootless", "--log=" + r.dir + "/dpkg.log",
	}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("dpkg %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// has checks a file of root's.
func (r debRoot) has(file string, mode fs.FileMode) {
	r.t.Helper()
	info, err := os.Lstat(r.dir + file)
	if err != nil {
		r.t.Error(err)
		return
	}
	var stat unix.Stat_t
	if err := unix.Lstat(r.dir+file, &stat); err != nil || info.Mode() != mode || stat.Uid != 0 || stat.Gid != 0 {
		r.t.Errorf("%s: mode %v, owner %d:%d (%v), want %v and 0:0", file, info.Mode(), stat.Uid, stat.Gid, err, mode)
	}
}

func (r debRoot) hasNot(file string) {
	r.t.Helper()
	if _, err := os.Lstat(r.dir + file); !errors.Is(err, fs.ErrNotExist) {
		r.t.Errorf("%s is there (%v)", file, err)
	}
}

// nextVersion is the same package as another version, with one more line of configuration.
func nextVersion(t *testing.T, deb, version, line string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "usher")
	run(t, program(t, "dpkg-deb"), "--raw-extract", deb, dir)
	control := strings.Split(read(t, dir+"/DEBIAN/control"), "\n")
	for i, l := range control {
		if strings.HasPrefix(l, "Version: ") {
			control[i] = "Version: " + version
		}
	}
	write(t, dir+"/DEBIAN/control", strings.Join(control, "\n"))
	config := dir + "/etc/usher/config.yaml"
	write(t, config, fmt.Sprintf("%s\n%s\n", read(t, config), line))
	run(t, program(t, "dpkg-deb"), "--root-owner-group", "-Znone", "--build", dir)
	return dir + ".deb"
}
