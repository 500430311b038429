package packages

import (
	"fmt"
	"strings"
	"testing"
)

func TestRPMHasTheSameFilesAndScripts(t *testing.T) {
	for arch, name := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		t.Run(arch, func(t *testing.T) {
			file, rpm := dist(t, "*."+name+".rpm"), program(t, "rpm")
			if got := run(t, rpm, "-qp", "--qf", "%{NAME} %{ARCH} %{OS} %{LICENSE}", file); got != "usher "+name+" linux Apache-2.0" {
				t.Errorf("the package is %s", got)
			}
			const format = "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]"
			list := map[string]string{}
			for line := range strings.Lines(run(t, rpm, "-qp", "--qf", format, file)) {
				path, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				list[path] = rest
			}
			for path, mode := range installed {
				want := fmt.Sprintf("%v root:root", mode)
				if path == "/etc/usher/config.yaml" {
					want += " cn" // config(noreplace)
				}
				if list[path] != want {
					t.Errorf("%s is %q, want %q", path, list[path], want)
				}
			}
			scripts := run(t, rpm, "-qp", "--scripts", file)
			for _, script := range []string{"postinstall", "preremove", "postremove"} {
				if text := read(t, "../../examples/packages/"+script+".sh"); !strings.Contains(scripts, strings.TrimSpace(text)) {
					t.Errorf("%s is not among the scripts", script)
				}
			}
		})
	}
}

// The scripts of an rpm would run inside the scratch root, where there is no shell.
func TestRPMInstallAndRemove(t *testing.T) {
	file, rpm := dist(t, "*.x86_64.rpm"), program(t, "rpm")
	root := debRoot{t, t.TempDir()}
	run(t, rpm, "--root="+root.dir, "--initdb")
	run(t, rpm, "--root="+root.dir, "--install", "--nodeps", "--noscripts", "--ignorearch", file)
	for path, mode := range installed {
		root.has(path, mode)
	}
	if out := run(t, rpm, "--root="+root.dir, "--verify", "--nodeps", "usher"); out != "" {
		t.Errorf("rpm --verify: %s", out)
	}
	const mine = header + "manifests: [/srv/services]\n"
	write(t, root.dir+"/etc/usher/config.yaml", mine)
	run(t, rpm, "--root="+root.dir, "--erase", "--noscripts", "usher")
	root.hasNot("/usr/bin/usher")
	if text := read(t, root.dir+"/etc/usher/config.yaml.rpmsave"); text != mine {
		t.Errorf("the configuration was not kept:\n%s", text)
	}
}
