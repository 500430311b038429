package systemd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/usher-proxy/usher/test/usher"
)

// rootEnv is where Build has the root. It is told to the processes that the tests run in by
// the environment: they are executed anew inside their namespaces.
const rootEnv = "USHER_TEST_SYSTEMD_ROOT"

// Build makes what Boot needs: the root of machines, and a static usher. As both may be
// downloaded in part it has to run outside of the tests' namespaces, as in the example of
// the package. An ordinary user gets neither.
func Build() error {
	if os.Geteuid() != 0 {
		return nil
	}
	_, file, _, _ := runtime.Caller(0)
	script := exec.Command(filepath.Join(filepath.Dir(file), "build-root.sh"))
	var faults bytes.Buffer
	script.Stderr = &faults
	root, err := script.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", script, err, faults.Bytes())
	}
	if err := os.Setenv(rootEnv, strings.TrimSpace(string(root))); err != nil {
		return err
	}
	if err := buildKeeper(); err != nil {
		return err
	}
	return usher.BuildStatic()
}

// keeperEnv is where Build has put the program in keeper.
const keeperEnv = "USHER_TEST_KEEPER"

func keeper() string { return os.Getenv(keeperEnv) }

func buildKeeper() error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	path := filepath.Join(cache, "usher-test", "keeper")
	build := exec.Command("go", "build", "-o", path, "github.com/usher-proxy/usher/test/systemd/keeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return os.Setenv(keeperEnv, path)
}
