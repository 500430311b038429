package apiserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build builds what [Start] runs. It takes minutes once per machine and version, and nothing
// afterwards. As it may download, it has to run outside of the tests' namespaces:
//
//	netns.Main(m, apiserver.Build)
func Build() error {
	_, err := Binaries("etcd", "kube-apiserver")
	return err
}

// Binaries builds the named binaries where that was not done yet, and returns the directory
// that holds them. There are also kubectl and kube-proxy.
func Binaries(names ...string) (dir string, err error) {
	script, err := findUp("test/controlplane/build.sh")
	if err != nil {
		return "", err
	}
	cmd := exec.Command(script, names...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// findUp finds a file of the repository from anywhere within: tests run in the directory of
// their package.
func findUp(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, name)
		_, err := os.Stat(path)
		if err == nil || !errors.Is(err, os.ErrNotExist) || dir == "/" {
			return path, err
		}
		dir = filepath.Dir(dir)
	}
}
