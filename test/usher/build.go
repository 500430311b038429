package usher

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
	if raceEnabled {
		return build(nil, "-race")
	}
	return build(nil)
}

// BuildStatic is Build of what is released, without the race detector: it runs in other roots
// than this one, too.
func BuildStatic() error { return build([]string{"CGO_ENABLED=0"}) }

// Binary is where they have put it.
func Binary() string { return os.Getenv(binaryEnv) }

// BuildVariant builds another usher, in which variables of packages have other values, as
// -ldflags=-X has it: cmd/usher/cli.version=v2. It is for one function that Main calls first.
func BuildVariant(name string, values ...string) func() error {
	return func() error {
		var flags []string
		if raceEnabled {
			flags = append(flags, "-race")
		}
		var set strings.Builder
		for _, v := range values {
			fmt.Fprintf(&set, " -X github.com/usher-proxy/usher/%s", v)
		}
		return buildAs(binaryEnv+"_"+name, nil, append(flags, "-ldflags="+set.String())...)
	}
}

// Variant is where BuildVariant has put it.
func Variant(name string) string { return os.Getenv(binaryEnv + "_" + name) }

func build(env []string, flags ...string) error { return buildAs(binaryEnv, env, flags...) }

// buildAs has the environment tell where it is.
func buildAs(variable string, env []string, flags ...string) error {
	if os.Getenv(variable) != "" {
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
	path := filepath.Join(dir, fmt.Sprintf("building-%d", os.Getpid()))
	build := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags, []string{"github.com/usher-proxy/usher/cmd/usher"})...)
	build.Env = append(os.Environ(), env...)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	final, err := named(path)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	forgetOld(dir)
	return os.Setenv(variable, final)
}

// named gives a binary the name of what is in it: who tests another version at the
// same time has another one.
func named(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	final := filepath.Join(filepath.Dir(path), fmt.Sprintf("usher-%x", sha256.Sum256(content)))
	return final, os.Rename(path, final)
}

// forgetOld removes the binaries that nobody has built for a day. They are only a
// cache: that it fails is no reason not to test.
func forgetOld(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
