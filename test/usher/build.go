package usher

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// binary is where Build puts usher. It is told to the processes that the tests
// run in by the environment: they are executed anew inside their namespaces.
const binaryEnv = "USHER_TEST_BINARY"

// Build builds usher for Start to run. As it may download modules, it has to
// run outside of the tests' namespaces:
//
//	netns.Main(m, usher.Build)
//
// USHER_TEST_BINARY names one that is built already.
func Build() error {
	if os.Getenv(binaryEnv) != "" {
		return nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(cache, "usher-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// Packages are tested in parallel: each has its own, put there as one.
	path := filepath.Join(dir, fmt.Sprintf("usher-%d", os.Getpid()))
	build := exec.Command("go", "build", "-o", path, "github.com/usher-proxy/usher/cmd/usher")
	if raceEnabled {
		build.Args = append(build.Args[:2], append([]string{"-race"}, build.Args[2:]...)...)
	}
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	final := filepath.Join(dir, "usher-"+raceName())
	if err := os.Rename(path, final); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return os.Setenv(binaryEnv, final)
}

func raceName() string {
	if raceEnabled {
		return "race"
	}
	return "plain"
}
