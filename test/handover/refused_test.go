package handover

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// install puts a program at a path as packages do: by rename(2).
func install(t *testing.T, from, path string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	installText(t, string(content), path, mode)
}

func installText(t *testing.T, text, path string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil { // whatever the umask says
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// failures are the upgrades that usher counts as failed in their trial.
func (s *site) failures() (n int) {
	s.t.Helper()
	text, err := s.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, `usher_upgrade_failures_total{step="trial"} `); ok {
			fmt.Sscan(value, &n)
			return n
		}
	}
	s.t.Fatal("there is no such metric")
	return 0
}

// configText is a file of settings for the site's usher.
func configText(lines ...string) string {
	return "apiVersion: usher-proxy.io/v1alpha1\nkind: UsherConfiguration\n" + strings.Join(lines, "\n") + "\n"
}

// Whatever is wrong with the program or the configuration is found out in the trial, and told
// to who has asked. Everything goes on meanwhile.
func TestRefusedUpgrades(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	path, config := filepath.Join(dir, "usher"), filepath.Join(dir, "config.yaml")
	install(t, usher.Binary(), path, 0o755)
	good := configText("capture: iptables")
	installText(t, good, config, 0o644)
	s.startBy(path, "--config="+config)
	l := load.Begin(s.Site, load.Small)
	script := func(text string, mode os.FileMode) func() {
		return func() { installText(t, text, path, mode) }
	}
	configured := func(text string) func() {
		return func() { installText(t, text, config, 0o644) }
	}
	before := s.Status()
	for _, c := range []struct {
		name string
		make func()
		says []string
	}{
		{"exits", script("#!/bin/sh\necho out of order >&2\nexit 3\n", 0o755), []string{"trial of " + path, "exit status 3", "out of order"}},
		{"hangs", script("#!/bin/sh\nexec sleep 1000\n", 0o755), []string{"trial of " + path, "had not ended after 5s"}},
		{"says nothing", script("#!/bin/sh\nexit 0\n", 0o755), []string{"trial of " + path, "is it usher"}},
		{"not executable", func() { install(t, usher.Binary(), path, 0o644) }, []string{path + " is not executable", "chmod 0755"}},
		{"a text", script("hello\n", 0o755), []string{"execute " + path, "it is no program for linux"}},
		{"empty", script("", 0o755), []string{"execute " + path, "it is no program for linux"}},
		{"for everybody", func() { install(t, usher.Binary(), path, 0o757) }, []string{path + " may be written by everybody"}},
		{"missing", func() { os.Remove(path) }, []string{path, "no such file", "install the program again"}},
		{"a folder", func() { os.Remove(path); os.Mkdir(path, 0o755) }, []string{path + " is a directory"}},
		{"older", func() { os.Remove(path); install(t, usher.Variant(older), path, 0o755) }, []string{"trial of " + path, "in format 2, this one has 0: restart it instead"}},
		{"a broken configuration", configured("apiVersion: usher-proxy.io/v1alpha1\nkind: UsherConfiguration\ncapture: [\n"), []string{"config.yaml:3: no YAML"}},
		{"an unknown key", configured(configText("capture: iptables", "captured: yes")), []string{"config.yaml:4", "captured"}},
		{"another capture", configured(configText("capture: bind")), []string{"--capture=bind", "what is served is by iptables"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			failures := s.failures()
			c.make()
			if text, err := os.ReadFile(config); err == nil && string(text) != good { // usher tries that by itself
				netns.Eventually(t, "the new file is tried", func() error {
					if s.failures() == failures {
						return io.ErrNoProgress
					}
					return nil
				})
				failures = s.failures()
			}
			began := time.Now()
			_, said := s.Ask(1, "upgrade")
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			for _, what := range c.says {
				if !strings.Contains(said, what) {
					t.Errorf("the error does not say %q:\n%s", what, said)
				}
			}
			if n := s.failures(); n != failures+1 {
				t.Errorf("%d failures are counted, want %d", n, failures+1)
			}
			if last := lastWith(s.usher.Log(), "handover: nothing has changed"); !strings.Contains(last, `"step":"trial"`) {
				t.Errorf("the log says of it: %s", last)
			}
			if now := s.Status(); now.Upgrades != 0 || now.Version != before.Version {
				t.Errorf("usher is %+v", now)
			}
			os.RemoveAll(path)
			install(t, usher.Binary(), path, 0o755)
			installText(t, good, config, 0o644)
		})
	}
	netns.Eventually(t, "a good one works", func() error { // unless the configuration has just been tried
		_, said, code := usher.Run(t, s.NS, "upgrade", "--admin-socket="+s.Socket)
		if code != 0 {
			return fmt.Errorf("exit code %d: %s", code, said)
		}
		return nil
	})
	if now := s.Status(); now.Upgrades < 1 || !now.StartedWith(before) {
		t.Errorf("usher is %+v, was %+v", now, before)
	}
	l.Tell()
	s.ends()
}

// lastWith is the last line that has a text.
func lastWith(log, text string) (last string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			last = line
		}
	}
	return last
}
