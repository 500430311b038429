package packages

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// dist is the one file that make dist has made of this form.
func dist(t *testing.T, pattern string) string {
	t.Helper()
	dir := os.Getenv("USHER_DIST")
	if dir == "" {
		t.Skip("no packages: make test-packages builds them")
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, want one file %s", dir, found, pattern)
	}
	return found[0]
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func TestEveryArchitectureHasItsStaticBinary(t *testing.T) {
	for arch, machine := range machines {
		for from, file := range map[string]io.Reader{
			"deb":    inTar(t, debFiles(t, dist(t, "*_"+arch+".deb")), "./usr/bin/usher"),
			"tar.gz": inTar(t, unzipped(t, dist(t, "*_linux_"+arch+".tar.gz")), "/usher"),
		} {
			content, err := io.ReadAll(file)
			if err != nil {
				t.Fatal(err)
			}
			binary, err := elf.NewFile(bytes.NewReader(content))
			if err != nil {
				t.Fatalf("%s %s: %v", arch, from, err)
			}
			if binary.Machine != machine {
				t.Errorf("the %s of %s is for %v", from, arch, binary.Machine)
			}
			for _, p := range binary.Progs {
				if p.Type == elf.PT_INTERP {
					t.Errorf("the %s of %s is linked dynamically", from, arch)
				}
			}
		}
	}
}

func TestTheTarballIsRootsAndHasOneDirectory(t *testing.T) {
	path := dist(t, "*_linux_amd64.tar.gz")
	top := strings.TrimSuffix(filepath.Base(path), ".tar.gz") + "/"
	lacking := map[string]bool{}
	for _, name := range []string{
		"usher", "LICENSE", "THIRD-PARTY-LICENSES", "README.md", "systemd/usher.service", "systemd/config.yaml",
		"man/usher-run.1.gz", "man/usher-config.5.gz", "completions/usher.bash",
	} {
		lacking[top+name] = true
	}
	each(t, unzipped(t, path), func(h *tar.Header, _ io.Reader) bool {
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 || !strings.HasPrefix(h.Name, top) {
			t.Errorf("%s has the owner %d:%d and the mode %o", h.Name, h.Uid, h.Gid, h.Mode)
		}
		delete(lacking, h.Name)
		return true
	})
	if len(lacking) > 0 {
		t.Errorf("lacking: %v", lacking)
	}
}

func TestTheSumsAreThoseOfTheFiles(t *testing.T) {
	sums := dist(t, "SHA256SUMS")
	cmd := exec.Command(program(t, "sha256sum"), "--check", "--strict", "--quiet", "SHA256SUMS")
	cmd.Dir = filepath.Dir(sums)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	files, err := os.ReadDir(cmd.Dir)
	if lines := strings.Count(read(t, sums), "\n"); err != nil || lines != len(files)-1 {
		t.Errorf("%d sums of %d files (%v)", lines, len(files)-1, err)
	}
}

// debFiles is the tar of the files of a deb.
func debFiles(t *testing.T, deb string) io.Reader {
	t.Helper()
	return strings.NewReader(run(t, program(t, "dpkg-deb"), "--fsys-tarfile", deb))
}

func unzipped(t *testing.T, path string) io.Reader {
	t.Helper()
	return strings.NewReader(run(t, program(t, "gzip"), "-dc", path))
}

// inTar is the file whose name ends so.
func inTar(t *testing.T, archive io.Reader, suffix string) (found io.Reader) {
	t.Helper()
	each(t, archive, func(h *tar.Header, content io.Reader) bool {
		if strings.HasSuffix(h.Name, suffix) {
			found = content
		}
		return found == nil
	})
	if found == nil {
		t.Fatalf("no %s", suffix)
	}
	return found
}

// each calls f with every entry until it says false.
func each(t *testing.T, archive io.Reader, f func(*tar.Header, io.Reader) bool) {
	t.Helper()
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !f(h, r) {
			return
		}
	}
}
