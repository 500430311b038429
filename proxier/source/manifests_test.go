package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestManifestsReadFilesAndFolders(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	f.write("b.yaml", service("b", 2), goodSlice)
	f.write("a.yml", service("a", 1))
	f.write("c.json", `{"apiVersion": "v1", "kind": "List", "items": [
	{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}},
	{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}}]}`)
	f.write("d.txt", "not: [yaml")
	f.write(".e.yaml", "not: [yaml")
	f.ok(os.Mkdir(f.file("sub.yaml"), 0o755))
	f.write("sub.yaml/x.yaml", "not: [yaml")
	single := newFolder(t)
	single.write("given", service("given", 3))

	m := newTestManifests(t, log, f.path, single.file("given"), f.file("a.yml"))
	objects, complete := m.Objects()
	if !complete || !has("default/a", "default/b", "default/given", "node n1", "slice default/web-1")(objects) {
		t.Errorf("complete=%v, has %v", complete, names(objects))
	}
	select {
	case <-m.Changed():
	default:
		t.Error("Changed has no first value")
	}
	if n := log.count("warning") + log.count("error"); n > 0 {
		t.Errorf("%d problems", n)
	}
}

func TestManifestsPathMissing(t *testing.T) {
	f := newFolder(t)
	_, err := NewManifests([]string{f.path, f.file("none")}, "", "", newLogbook(t))
	if err == nil || !strings.Contains(err.Error(), f.file("none")) {
		t.Errorf("got %v", err)
	}
}

func TestManifestsWarnWithoutService(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	newTestManifests(t, log, f.path)
	if log.count("warning", "no Service", f.path) != 1 {
		t.Errorf("got %q", log.all())
	}
}

// Each way in which files are changed takes effect, and soon.
func TestManifestsFollowEdits(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	f.write("a.yaml", service("a", 1))
	elsewhere := newFolder(t)
	elsewhere.write("target.yaml", service("linked", 2))
	f.link(elsewhere.file("target.yaml"), "link.yaml")
	single := newFolder(t)
	single.write("one.yaml", service("one", 3))
	m := newTestManifests(t, log, f.path, single.file("one.yaml"))
	run(t, m)

	for _, step := range []struct {
		what string
		do   func()
		want []string
	}{
		{"written in place", func() { f.write("a.yaml", service("a2", 1)) }, []string{"default/a2", "default/linked", "default/one"}},
		{"replaced", func() { f.save("a.yaml", service("a3", 1)) }, []string{"default/a3", "default/linked", "default/one"}},
		{"added", func() { f.save("b.yaml", service("b", 4)) }, []string{"default/a3", "default/b", "default/linked", "default/one"}},
		{"renamed", func() { f.ok(os.Rename(f.file("b.yaml"), f.file("b.off"))) }, []string{"default/a3", "default/linked", "default/one"}},
		{"a link's target", func() { elsewhere.write("target.yaml", service("linked2", 2)) }, []string{"default/a3", "default/linked2", "default/one"}},
		{"a link", func() {
			elsewhere.write("other.yaml", service("linked3", 2))
			f.remove("link.yaml")
			f.link(elsewhere.file("other.yaml"), "link.yaml")
		}, []string{"default/a3", "default/linked3", "default/one"}},
		{"a file that was given", func() { single.save("one.yaml", service("one2", 3)) }, []string{"default/a3", "default/linked3", "default/one2"}},
		{"removed", func() { f.remove("a.yaml") }, []string{"default/linked3", "default/one2"}},
		{"file mode", func() { f.write("a.yaml", service("a", 1)); f.ok(os.Chmod(f.file("a.yaml"), 0o600)) }, []string{"default/a", "default/linked3", "default/one2"}},
	} {
		start := time.Now()
		step.do()
		until(t, m, step.what, has(step.want...))
		// A second is promised, on a machine that is not busy. What nobody notices is
		// found only when all is read again.
		if took := time.Since(start); took > rereadEvery/3 {
			t.Errorf("%s: took %v", step.what, took)
		}
	}
	if n := log.count("error") + log.count("warning"); n > 0 {
		t.Errorf("%d problems", n)
	}
}

// kubelet updates a mounted ConfigMap by one rename of a symlink.
func TestManifestsFollowConfigMap(t *testing.T) {
	for _, given := range []string{"", "a.yaml"} {
		t.Run("path "+given, func(t *testing.T) {
			f := newFolder(t)
			version := func(name string) {
				f.ok(os.Mkdir(f.file(".."+name), 0o755))
				f.write(".."+name+"/a.yaml", service(name, 1))
				f.link(".."+name, "..data_tmp")
				f.ok(os.Rename(f.file("..data_tmp"), f.file("..data")))
			}
			version("v1")
			f.link("..data/a.yaml", "a.yaml")
			m := newTestManifests(t, newLogbook(t), filepath.Join(f.path, given))
			run(t, m)
			until(t, m, "first version", has("default/v1"))
			version("v2")
			f.remove("..v1")
			until(t, m, "second version", has("default/v2"))
			version("v3")
			until(t, m, "third version", has("default/v3"))
		})
	}
}

// A folder that is gone is a mistake on its way to be mended, such as a
// checkout; one that was emptied is meant.
func TestManifestsFolderVanishes(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	f.ok(os.Mkdir(f.file("m"), 0o755))
	f.write("m/a.yaml", service("a", 1))
	m := newTestManifests(t, log, f.file("m"))
	run(t, m)
	until(t, m, "start", has("default/a"))

	f.ok(os.Rename(f.file("m"), f.file("away")))
	within(t, "the log says it", func() bool { return log.count("error", f.file("m")+": is gone") == 1 })
	if objects, _ := m.Objects(); !has("default/a")(objects) {
		t.Errorf("has %v", names(objects))
	}
	f.write("away/b.yaml", service("b", 2))
	f.ok(os.Rename(f.file("away"), f.file("m")))
	until(t, m, "it is back", has("default/a", "default/b"))
	within(t, "the log says that too", func() bool { return log.count("mended: "+f.file("m")) == 1 })
	f.write("m/b.yaml", service("b2", 2))
	until(t, m, "it is watched again", has("default/a", "default/b2"))
}

func TestManifestsUnreadableFile(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(f folder)
		want  string
	}{
		"dangling link": {func(f folder) { f.remove("a.yaml"); f.link("none", "a.yaml") }, "is a symlink to a file that does not exist"},
		"pipe":          {func(f folder) { f.remove("a.yaml"); f.ok(syscall.Mkfifo(f.file("a.yaml"), 0o644)) }, "is no regular file"},
		"loop":          {func(f folder) { f.remove("a.yaml"); f.link("a.yaml", "a.yaml") }, "too many levels of symbolic links"},
		"huge":          {func(f folder) { f.ok(os.Truncate(f.file("a.yaml"), maxFileBytes+1)) }, "is larger than 32 MiB"},
		"emptied":       {func(f folder) { f.ok(os.Truncate(f.file("a.yaml"), 0)) }, "is empty: remove the file"},
	} {
		t.Run(name, func(t *testing.T) {
			f, log := newFolder(t), newLogbook(t)
			f.write("a.yaml", service("a", 1))
			f.write("b.yaml", service("b", 2))
			m := newTestManifests(t, log, f.path)
			test.spoil(f)
			f.write("b.yaml", service("b2", 2))
			if got := reload(m); strings.Join(got, " ") != "default/a default/b2" {
				t.Errorf("serves %v", got)
			}
			if log.count("error", f.file("a.yaml"), test.want) != 1 {
				t.Errorf("the log does not say %q", test.want)
			}
			f.remove("a.yaml")
			if got := reload(m); strings.Join(got, " ") != "default/b2" {
				t.Errorf("serves %v after the file was removed", got)
			}
		})
	}
}

func TestManifestFilesAreBounded(t *testing.T) {
	f := newFolder(t)
	for i := range maxFiles + 1 {
		f.link("none", fmt.Sprintf("%05d.yaml", i))
	}
	files, err := manifestFiles(f.path)
	if len(files) != maxFiles || err == nil || !strings.Contains(err.Error(), "04096.yaml") {
		t.Errorf("%d files, error %v", len(files), err)
	}
}

// Without a watch the files are read every second.
func TestManifestsBlind(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	f.write("a.yaml", service("a", 1))
	m := newTestManifests(t, log, f.path)
	m.watch = func([]string) (*watcher, error) { return nil, errors.New("too many open files") }
	run(t, m)
	within(t, "a warning", func() bool { return log.count("warning", "cannot watch") == 1 })
	f.write("a.yaml", service("b", 1))
	until(t, m, "the edit", has("default/b"))
}

func TestManifestsSameContentIsNoChange(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	f.write("a.yaml", service("a", 1))
	m := newTestManifests(t, log, f.path)
	<-m.Changed()
	before, _ := m.Objects()
	f.write("a.yaml", "# a comment\n"+service("a", 1))
	m.load(never)
	select {
	case <-m.Changed():
		t.Error("Changed has a value")
	default:
	}
	f.write("a.yaml", service("a", 2))
	m.load(never)
	<-m.Changed()
	if after, _ := m.Objects(); after.Services[0].ResourceVersion == before.Services[0].ResourceVersion {
		t.Error("the resourceVersion is the same")
	}
}

// What is read while somebody writes is not told as a mistake.
func TestManifestsReadAgainWhileWritten(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	f.write("a.yaml", service("a", 1))
	m := newTestManifests(t, log, f.path)
	f.write("a.yaml", brokenService[:60])
	paused := 0
	m.load(func(d time.Duration) bool {
		paused++
		f.write("a.yaml", service("b", 1))
		return true
	})
	if objects, _ := m.Objects(); !has("default/b")(objects) || log.count("error") > 0 {
		t.Errorf("has %v", names(objects))
	}
	if paused < 1 || paused > maxRereads { // it goes on being written, and yet it ends
		t.Errorf("paused %d times", paused)
	}
}

func TestManifestsEvent(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	m := newTestManifests(t, log, f.path)
	for range 3 {
		m.Event(Ref{"Service", "default", "a"}, "PortRefused", "why")
	}
	if log.count("debug", "why") != 1 {
		t.Errorf("got %q", log.all())
	}
}

// Beside another proxy, usher serves only the Services that name it.
func TestManifestsServeTheServicesOfTheirProxyName(t *testing.T) {
	f, log := newFolder(t), newLogbook(t)
	labelled := func(name string, n int, proxy string) string {
		return strings.Replace(service(name, n), "metadata:\n", "metadata:\n  labels: {service.kubernetes.io/service-proxy-name: "+proxy+"}\n", 1)
	}
	f.write("a.yaml", service("ordinary", 1), labelled("ours", 2, "usher"), labelled("theirs", 3, "other"), labelled("empty", 4, `""`))
	for proxy, want := range map[string]string{"": "default/ordinary", "usher": "default/ours", "other": "default/theirs"} {
		m, err := NewManifests([]string{f.path}, "", proxy, log)
		if err != nil {
			t.Fatal(err)
		}
		if objects, _ := m.Objects(); !has(want)(objects) || len(objects.Services) != 1 {
			t.Errorf("proxy name %q serves %v, want %s", proxy, names(objects), want)
		}
	}
}
