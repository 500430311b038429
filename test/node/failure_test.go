package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// breakable puts programs in front of the iptables ones that fail while a file
// of their name is in the folder that it returns.
func breakable(t *testing.T) (broken string) {
	t.Helper()
	bin, broken := t.TempDir(), t.TempDir()
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-restore", "-save"} {
			real, err := exec.LookPath(family + suffix)
			if err != nil {
				t.Fatal(err)
			}
			script := fmt.Sprintf("#!/bin/sh\n[ -e %s/%s ] && { echo broken by the test >&2; exit 1; }\nexec %s \"$@\"\n", broken, family, real)
			if err := os.WriteFile(filepath.Join(bin, family+suffix), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return broken
}

func touch(t *testing.T, folder, name string) (remove func()) {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(path) }
}

// While rules cannot be written, those that are there lead to somebody who
// serves; afterwards everything is as it should be.
func TestFailedWriteKeepsWhatWasThere(t *testing.T) {
	broken := breakable(t)
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.write("gone.yaml", manifest("gone", 11, 30081, s.pods[0].IPv4))
	u := s.start()
	served(t, s.client.NS, vip(10))

	mend := touch(t, broken, "iptables")
	s.write("web.yaml", strings.Replace(manifest("web", 10, 30080, s.pods[1].IPv4), "port: 80,", "port: 8000,", 1))
	s.remove("gone.yaml")
	u.WaitLog("IPv4: cannot write the capture")
	for _, url := range []string{vip(10), vip(11)} {
		if answer, err := s.client.Get(url); err != nil {
			t.Errorf("the rules lead to nobody: %q, %v", answer, err)
		}
	}
	if answer, err := s.client.Get(vip(10)); answer != "pod-2" {
		t.Errorf("an endpoint change needs no rule, but %q answers, %v", answer, err)
	}

	mend()
	u.WaitLog("no longer: IPv4: cannot write the capture")
	served(t, s.client.NS, vip(10)+":8000")
	netns.Eventually(t, "the old port is free of rules", func() error {
		if connect(t, s.client.NS, vip(10)) == nil || connect(t, s.client.NS, vip(11)) == nil {
			return fmt.Errorf("an address that is gone is still served")
		}
		return nil
	})
}

// A family whose rules cannot be written does not hold up the other one.
func TestFamiliesFailAlone(t *testing.T) {
	broken := breakable(t)
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start("--sync-period=1s")
	served(t, s.client.NS, vip(10))
	port := s.listenerPort(10)
	touch(t, broken, "ip6tables")
	s.Run("nft", "add", "table", "ip6", "somebody") // so that usher looks what has changed
	u.WaitLog("IPv6: cannot write the capture")
	s.remove("web.yaml")
	s.write("next.yaml", manifest("next", 11, 30081, s.pods[0].IPv4))
	served(t, s.client.NS, vip(11))
	netns.Eventually(t, "the listener of the deleted Service is closed", func() error {
		if listening := s.Run("ss", "-ltnH"); strings.Contains(listening, fmt.Sprintf(":%d ", port)) {
			return fmt.Errorf("it is not:\n%s", listening)
		}
		return nil
	})
}

// An endpoint change runs no program and writes no rule.
func TestEndpointChangeTouchesNoRule(t *testing.T) {
	broken := breakable(t)
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	u := s.start()
	served(t, s.client.NS, vip(10))
	touch(t, broken, "iptables")
	touch(t, broken, "ip6tables")
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[1].IPv4))
	netns.Eventually(t, "the other pod answers", func() error {
		if answer, err := s.client.Get(vip(10)); answer != "pod-2" {
			return fmt.Errorf("%q, %v", answer, err)
		}
		return nil
	})
	if strings.Contains(u.Log(), "cannot write the capture") {
		t.Error("an endpoint change ran iptables")
	}
}

// The rules of a crashed usher must not stay in the way of one that has none.
func TestBindRemovesLeftoverRules(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start().Kill()
	u := usher.Launch(t, s.NS, "run", "--manifests="+s.folder, "--capture=bind")
	u.WaitLog("capture=bind")
	netns.Eventually(t, "no rule is left", func() error {
		if rules := s.rules(); strings.Contains(rules, "USHER") {
			return fmt.Errorf("rules\n%s", rules)
		}
		return nil
	})
}
