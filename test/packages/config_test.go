package packages

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What is commented out in the configuration file is a key that there is, and its default.
func TestTheConfigurationFileTellsTheDefaults(t *testing.T) {
	shipped := read(t, systemd+"config.yaml")
	everything := regexp.MustCompile(`(?m)^#(\w+: )`).ReplaceAllString(shipped, "$1")
	if strings.Count(everything, "\n") != strings.Count(shipped, "\n") || everything == shipped {
		t.Fatal("no key is commented out")
	}
	before, after := effective(t, shipped), effective(t, everything)
	if before != after {
		t.Errorf("a key that is commented out is not the default:\n%s\nwith all of them:\n%s", before, after)
	}
	if want := effective(t, header+"kubeconfig: /etc/usher/kubeconfig\n"); before != want {
		t.Errorf("the file sets more than the kubeconfig:\n%s", before)
	}
}

const header = "apiVersion: usher-proxy.io/v1alpha1\nkind: UsherConfiguration\n"

// effective are the settings that usher has by a configuration file.
func effective(t *testing.T, config string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	write(t, file, config)
	return run(t, os.Getenv("USHER_TEST_BINARY"), "run", "--config="+file, "--write-config-to=-")
}
