package cluster

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/usher-proxy/usher/test/apiserver"
	"github.com/usher-proxy/usher/test/netns"
)

// kubectl is the program of that name, in the hands of an admin.
type kubectl struct {
	program string
	flags   []string
}

func newKubectl(t *testing.T, kubeconfig string) kubectl {
	t.Helper()
	dir, err := apiserver.Binaries("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	return kubectl{
		program: filepath.Join(dir, "kubectl"),
		flags:   []string{"--kubeconfig=" + kubeconfig, "--cache-dir=" + t.TempDir()},
	}
}

// run runs kubectl in a namespace. It must succeed; what it wrote is returned.
func (k kubectl) run(ns *netns.NS, args ...string) string {
	return ns.Run(k.program, slices.Concat(k.flags, args)...)
}

// command is a run of kubectl that may fail.
func (k kubectl) command(ns *netns.NS, args ...string) *netns.Cmd {
	return ns.Command(context.Background(), k.program, slices.Concat(k.flags, args)...)
}
