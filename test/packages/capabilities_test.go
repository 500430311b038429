package packages

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// needed are the capabilities without any of which usher misses something.
var needed = []string{"net_admin", "net_bind_service", "net_raw"}

func TestTheCapabilitiesOfTheUnitAreThoseThatUsherNeeds(t *testing.T) {
	found := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindStringSubmatch(read(t, systemd+"usher.service"))
	if found == nil {
		t.Fatal("the unit has no CapabilityBoundingSet=")
	}
	if kept := strings.Fields(strings.ToLower(strings.ReplaceAll(found[1], "CAP_", ""))); !slices.Equal(kept, needed) {
		t.Errorf("the unit keeps %v, want %v", kept, needed)
	}
	if line := checked(t, needed); !strings.HasPrefix(line, "OK") {
		t.Errorf("usher check with %v: %s", needed, line)
	}
	for _, one := range needed {
		others := slices.DeleteFunc(slices.Clone(needed), func(c string) bool { return c == one })
		if one == "net_raw" {
			legacyNeedsIt(t, others)
		} else if line := checked(t, others); !strings.HasPrefix(line, "WARN") || !strings.Contains(line, strings.ToUpper(one)) {
			t.Errorf("usher check without %s: %s", one, line)
		}
	}
}

// checked is what usher check says of the capabilities that it has.
func checked(t *testing.T, capabilities []string) string {
	t.Helper()
	cmd := exec.Command(os.Getenv("USHER_TEST_BINARY"), "check", "--manifests="+t.TempDir())
	out, _ := confined(t, cmd, capabilities).CombinedOutput() // it has more to say than of these
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "capabilities" {
			return line
		}
	}
	t.Fatalf("usher check says nothing of capabilities:\n%s", out)
	return ""
}

// iptables-legacy talks to the kernel through a raw socket.
func legacyNeedsIt(t *testing.T, without []string) {
	t.Helper()
	legacy := program(t, "iptables-legacy")
	if out, err := confined(t, exec.Command(legacy, "-t", "nat", "-S"), needed).CombinedOutput(); err != nil {
		t.Logf("iptables-legacy is not tried, it does not work here: %v: %s", err, out)
		return
	}
	if out, err := confined(t, exec.Command(legacy, "-t", "nat", "-S"), without).CombinedOutput(); err == nil {
		t.Errorf("iptables-legacy works without CAP_NET_RAW:\n%s", out)
	}
}

// confined is a command of root's that can get no capabilities but these, as under the unit.
func confined(t *testing.T, cmd *exec.Cmd, capabilities []string) *exec.Cmd {
	t.Helper()
	return exec.Command(program(t, "setpriv"), append([]string{
		"--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+" + strings.Join(capabilities, ",+"), cmd.Path,
	}, cmd.Args[1:]...)...)
}
