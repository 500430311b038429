package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/usher-proxy/usher/proxier/source/laststate"
)

// newKeptAPI is an API of the node n1 with a file, which it is impatient to read and keeps
// well up to date.
func newKeptAPI(t *testing.T, f *fakeAPI, log *logbook, file string, change ...func(*Config)) *API {
	t.Helper()
	c := Config{REST: f.config(), NodeName: "n1", Log: log, LastState: file, LastStateMaxAge: time.Hour}
	for _, ch := range change {
		ch(&c)
	}
	a, err := NewAPI(c)
	if err != nil {
		t.Fatal(err)
	}
	a.keeper.keeperTimes = keeperTimes{100 * time.Millisecond, time.Second, 10 * time.Millisecond, time.Hour}
	return a
}

// kept is a file that an API has kept, of the Services a and gone, and the API server, which
// is away.
func kept(t *testing.T) (f *fakeAPI, file string) {
	t.Helper()
	f, file = newFakeAPI(t), filepath.Join(t.TempDir(), "kept")
	f.put("services", apiService("a", "10.96.0.1"))
	f.put("services", apiService("gone", "10.96.0.2"))
	f.put("endpointslices", apiSlice("a-1"))
	f.put("nodes", apiNode("n1"))
	a := newKeptAPI(t, f, newLogbook(t), file)
	stop := run(t, a)
	until(t, a, "the lists", has("default/a", "default/gone", "node n1", "slice default/a-1"))
	stop()
	f.goAway()
	return f, file
}

func lastStateOf(t *testing.T, a *API) LastState {
	t.Helper()
	s, ok := a.LastState()
	if !ok {
		t.Fatal("no last state")
	}
	return s
}

// While there is no API server the last state is served as it was, and then that of the API
// server takes its place at once.
func TestStartFromTheLastState(t *testing.T) {
	f, file := kept(t)
	log := newLogbook(t)
	a := newKeptAPI(t, f, log, file)
	run(t, a)
	before := until(t, a, "the last state", has("default/a", "default/gone", "node n1", "slice default/a-1"))
	if !before.ExpectsNode || len(before.Services[0].Annotations) != 1 || before.Services[0].ManagedFields != nil {
		t.Errorf("it is %+v", before)
	}
	if now, _ := a.Objects(); !sameList(now.Services, before.Services) || !sameList(now.Slices, before.Slices) {
		t.Error("each look makes another list")
	}
	if s := lastStateOf(t, a); !s.Served || s.File != file || time.Since(s.AsOf) > time.Minute || s.Failing != "" {
		t.Errorf("it is said to be %+v", s)
	}
	if log.count("warning", "serving the last state of", file, "2 Services, 1 EndpointSlices") != 1 {
		t.Errorf("the log is %q", log.all())
	}

	f.delete("services", "default/gone")
	f.put("services", apiService("new", "10.96.0.3"))
	f.set(func() { f.held["endpointslices"] = true }) // the API server is slow
	f.comeBack()
	within(t, "half of it is there", func() bool { return a.services.informer.HasSynced() })
	if now, _ := a.Objects(); !sameList(now.Services, before.Services) {
		t.Errorf("of two states there is %v", names(now))
	}
	f.set(func() { f.held["endpointslices"] = false })
	until(t, a, "the API server's state", has("default/a", "default/new", "node n1", "slice default/a-1"))
	within(t, "the log says it", func() bool { return log.count("info", "2 Services", "they replace the last state of") == 1 })
	if lastStateOf(t, a).Served {
		t.Error("the last state is said to be served")
	}
}

// Whoever can be asked is believed, and the file is not even read.
func TestLastStateIsNotNeeded(t *testing.T) {
	f, file := kept(t)
	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	f.comeBack()
	log := newLogbook(t)
	a := newKeptAPI(t, f, log, file)
	run(t, a)
	until(t, a, "the lists", has("default/a", "default/gone", "node n1", "slice default/a-1"))
	within(t, "the file is kept", func() bool { return lastStateOf(t, a).Bytes > 0 })
	if s := lastStateOf(t, a); s.Served || s.Failing != "" || log.count("last state") > 0 {
		t.Errorf("it is %+v, and the log %q", s, log.all())
	}
}

// An API server that talks, but does not tell all there is, is not waited for without end;
// without a file it is.
func TestLastStateInsteadOfHalfAState(t *testing.T) {
	f, file := kept(t)
	f.comeBack()
	f.set(func() { f.held["endpointslices"] = true })
	a := newKeptAPI(t, f, newLogbook(t), file)
	run(t, a)
	until(t, a, "the last state", has("default/a", "default/gone", "node n1", "slice default/a-1"))
}

// The Node stays as it was until the API server tells it: to forget it for a moment would
// change what is served.
func TestLastStateKeepsTheNode(t *testing.T) {
	f, file := kept(t)
	f.set(func() { f.held["nodes"] = true })
	a := newKeptAPI(t, f, newLogbook(t), file)
	run(t, a)
	until(t, a, "the last state", has("default/a", "default/gone", "node n1", "slice default/a-1"))
	f.comeBack()
	within(t, "the lists are there", func() bool { return a.isComplete() })
	if now, _ := a.Objects(); now.Node == nil || now.Node.Status.Addresses[0].Address != "192.0.2.1" {
		t.Errorf("the Node is %+v", now.Node)
	}
	f.delete("nodes", "/n1")
	f.set(func() { f.held["nodes"] = false })
	until(t, a, "there is none", has("default/a", "default/gone", "slice default/a-1"))
}

// What cannot be used is told once, and usher waits as if there were no file.
func TestLastStateThatCannotBeUsed(t *testing.T) {
	for says, spoil := range map[string]func(file string, c *Config) error{
		"it is cut off":        func(file string, _ *Config) error { return os.Truncate(file, 100) },
		"no last state of":     func(file string, _ *Config) error { return os.WriteFile(file, []byte("kind: List\n"), 0o600) },
		"another node, \"n1\"": func(_ string, c *Config) error { c.NodeName = "n2"; return nil },
		"another cluster":      func(_ string, c *Config) error { c.REST.Host = "http://127.0.0.1:1"; return nil },
		"service-proxy-name":   func(_ string, c *Config) error { c.ServiceProxyName = "usher"; return nil },
		"no regular file":      func(file string, _ *Config) error { _ = os.Remove(file); return os.Mkdir(file, 0o700) },
		"others than its own":  func(file string, _ *Config) error { return os.Chmod(file, 0o666) },
		"there is no last state in": func(file string, _ *Config) error {
			return os.Remove(file)
		},
		"--last-state-max-age is 1ns": func(_ string, c *Config) error {
			c.LastStateMaxAge = time.Nanosecond
			return nil
		},
	} {
		t.Run(says, func(t *testing.T) {
			f, file := kept(t)
			log := newLogbook(t)
			a := newKeptAPI(t, f, log, file, func(c *Config) {
				if err := spoil(file, c); err != nil {
					t.Fatal(err)
				}
			})
			run(t, a)
			within(t, "it is told", func() bool { return log.count("warning", "does not tell what to serve", says, "waiting") == 1 })
			if objects, complete := a.Objects(); complete || len(objects.Services) > 0 {
				t.Errorf("complete=%v with %v", complete, names(objects))
			}
			if s := lastStateOf(t, a); s.Served {
				t.Errorf("it is %+v", s)
			}
		})
	}
}

// The file follows what the API server tells, and nothing else writes it.
func TestLastStateFollows(t *testing.T) {
	f, file := newFakeAPI(t), filepath.Join(t.TempDir(), "kept")
	f.put("services", apiService("a", "10.96.0.1"))
	log := newLogbook(t)
	a := newKeptAPI(t, f, log, file)
	stop := run(t, a)
	has := func(n int) func() bool {
		return func() bool {
			s, err := laststate.Read(file, a.keeper.owner)
			return err == nil && len(s.Services) == n
		}
	}
	within(t, "it is there", has(1))
	f.put("services", apiService("b", "10.96.0.2"))
	within(t, "it has the change", has(2))

	before, _ := os.Stat(file)
	looks := 0
	within(t, "some intervals go by", func() bool { looks++; return looks > 20 })
	f.goAway()
	within(t, "the API server is away", func() bool { return log.count("cannot") > 0 })
	if now, _ := os.Stat(file); !os.SameFile(before, now) || !now.ModTime().Equal(before.ModTime()) {
		t.Error("it was written without a change")
	}
	stop()
	if !has(2)() {
		t.Error("after the end it has something else")
	}
}

// A disk that takes no more is told once, and once more when it does again.
func TestLastStateCannotBeWritten(t *testing.T) {
	f, folder := newFakeAPI(t), filepath.Join(t.TempDir(), "folder")
	f.put("services", apiService("a", "10.96.0.1"))
	log := newLogbook(t)
	a := newKeptAPI(t, f, log, filepath.Join(folder, "kept"))
	run(t, a)
	within(t, "it is told", func() bool { return log.count("warning cannot keep the last state", "no such file") == 1 })
	for i := range 3 {
		f.put("services", apiService(fmt.Sprint("b-", i), "10.96.0.2"))
	}
	if s := lastStateOf(t, a); !strings.Contains(s.Failing, "no such file") {
		t.Errorf("it is %+v", s)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	within(t, "it is told too", func() bool { return log.count("info can keep the last state", "again") == 1 })
	if n := log.count("warning cannot keep"); n != 1 || lastStateOf(t, a).Failing != "" {
		t.Errorf("%d lines for one fault", n)
	}
}

func TestClusterOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(host, data, file string) string {
		return clusterOf(&rest.Config{Host: host, TLSClientConfig: rest.TLSClientConfig{CAData: []byte(data), CAFile: file}})
	}
	if with("https://10.0.0.5:6443", "one", "") != with("https://10.0.0.6:6443", "", file) {
		t.Error("two API servers of one CA are two clusters")
	}
	if with("https://10.0.0.5:6443", "one", "") == with("https://10.0.0.5:6443", "two", "") {
		t.Error("two CAs are one cluster")
	}
	if with("https://10.0.0.5:6443", "", "") == with("https://10.0.0.6:6443", "", "") {
		t.Error("without a CA two addresses are one cluster")
	}
}
