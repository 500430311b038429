package systemd

import (
	"os"
	"testing"
)

// Machines share nothing but the root that they do not write to, and leave nothing.
func TestMachines(t *testing.T) {
	one, other := Boot(t), Boot(t)
	one.Push("/etc/mark", "one", 0o644)
	if _, err := other.Try("cat", "/etc/mark"); err == nil {
		t.Error("one machine sees what the other one writes")
	}
	if got := one.Run("cat", "/etc/mark"); got != "one" {
		t.Errorf("what was written is %q", got)
	}
	if a, b := one.Run("cat", "/etc/machine-id"), other.Run("cat", "/etc/machine-id"); a == b {
		t.Errorf("both are the machine %s", a)
	}
	if _, err := os.Stat(os.Getenv(rootEnv) + "/etc/mark"); err == nil {
		t.Error("the root has changed")
	}
	groups := one.groups()
	one.Close()
	for _, g := range groups {
		if _, err := os.Stat(g); err == nil {
			t.Errorf("%s is left", g)
		}
	}
}
