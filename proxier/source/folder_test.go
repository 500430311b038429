package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// folder is a folder with manifests.
type folder struct {
	t    *testing.T
	path string
}

func newFolder(t *testing.T) folder { return folder{t, t.TempDir()} }

func (f folder) file(name string) string { return filepath.Join(f.path, name) }

// write replaces a file's content in place, as "cat >" does.
func (f folder) write(name string, documents ...string) {
	f.t.Helper()
	f.ok(os.WriteFile(f.file(name), []byte(strings.Join(documents, "---\n")), 0o644))
}

// save replaces a file by another one, as editors do.
func (f folder) save(name string, documents ...string) {
	f.t.Helper()
	f.write(".tmp", documents...)
	f.ok(os.Rename(f.file(".tmp"), f.file(name)))
}

func (f folder) remove(name string) {
	f.t.Helper()
	f.ok(os.RemoveAll(f.file(name)))
}

func (f folder) link(target, name string) {
	f.t.Helper()
	f.ok(os.Symlink(target, f.file(name)))
}

func (f folder) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// service is a manifest of a Service with the ClusterIP 10.96.0.ip.
func service(name string, ip int, more ...string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata:\n  name: %s\nspec:\n  clusterIP: 10.96.0.%d\n%s  ports:\n  - port: 80\n",
		name, ip, strings.Join(more, ""))
}

// nodePort is a manifest of a Service of type NodePort.
func nodePort(name string, ip, port int) string {
	return service(name, ip, "  type: NodePort\n") + fmt.Sprintf("    nodePort: %d\n", port)
}

const brokenService = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  - port: eighty\n"

func newTestManifests(t *testing.T, log *logbook, paths ...string) *Manifests {
	t.Helper()
	m, err := NewManifests(paths, "n1", "", log)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// reload loads once, and returns what is served then.
func reload(m *Manifests) []string {
	m.load(never)
	return names(*m.state.Load())
}

func never(time.Duration) bool { return false }
