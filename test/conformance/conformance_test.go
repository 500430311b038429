package conformance

import (
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

func TestMain(m *testing.M) { netns.Main(m, usher.Build) }

func TestWithManifests(t *testing.T) {
	w := NewWorld(t)
	store := NewManifests(t)
	w.Store = store
	w.Usher = usher.Start(t, w.NS, "--manifests="+store.Folder, "--capture=iptables", "--node-name=node")
	Run(t, w)
}
