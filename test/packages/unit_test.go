package packages

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

var update = flag.Bool("update", false, "write testdata/exposure.golden")

func TestMain(m *testing.M) { netns.Main(m, usher.Build) }

const systemd = "../../examples/systemd/"

func TestSystemdVerifiesTheUnit(t *testing.T) {
	analyze := program(t, "systemd-analyze")
	// What it starts has to be there.
	text := strings.ReplaceAll(read(t, systemd+"usher.service"), "/usr/bin/usher", os.Getenv("USHER_TEST_BINARY"))
	unit := filepath.Join(t.TempDir(), "usher.service")
	write(t, unit, text)
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// highest is the exposure that the unit may have, of 10.
const highest = 2.2

func TestExposure(t *testing.T) {
	analyze := program(t, "systemd-analyze")
	threshold := fmt.Sprintf("--threshold=%.0f", highest*10)
	out, err := exec.Command(analyze, "security", "--offline=true", threshold, systemd+"usher.service").CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	found := regexp.MustCompile(`exposure level for usher.service: ([0-9.]+)`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("no exposure in\n%s", out)
	}
	t.Logf("exposure %s", found[1])
	if exposure, err := strconv.ParseFloat(string(found[1]), 64); err != nil || exposure > highest {
		t.Errorf("the exposure is %s, want at most %g", found[1], highest)
	}

	// Each version of systemd has a table of its own.
	version := strings.Fields(run(t, analyze, "--version"))[1]
	got := fmt.Sprintf("systemd %s: %s\n", version, found[1])
	golden := "testdata/exposure.golden"
	if *update {
		write(t, golden, got)
	}
	want := read(t, golden)
	if strings.Split(want, ":")[0] != strings.Split(got, ":")[0] {
		t.Skipf("the golden figure is another systemd's: %s", want)
	}
	if got != want {
		t.Errorf("got %swant %sif that is meant: go test ./test/packages -update", got, want)
	}
}
