package netns

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// UseIPTables makes iptables the one of a backend, nft or legacy, for this process and
// its children until the test ends. Without it the test is skipped.
func UseIPTables(t *testing.T, backend string) {
	t.Helper()
	dir := t.TempDir()
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, program := range []string{"", "-save", "-restore"} {
			path, err := exec.LookPath(family + "-" + backend + program)
			if err != nil {
				t.Skip(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, family+program)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}
