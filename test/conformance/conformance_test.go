package conformance

import (
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

func TestMain(m *testing.M) { netns.Main(m, usher.Build) }

func TestWithManifests(t *testing.T) {
	store := NewManifests(t)
	Run(t, NewWorld(t), "usher (manifests)", store, Usher{Source: "--manifests=" + store.Folder})
}

// Bound addresses serve like redirected ones, but for the cases that need netfilter.
func TestWithManifestsBind(t *testing.T) {
	store := NewManifests(t)
	Run(t, NewWorld(t), "usher (bind)", store, Usher{Source: "--manifests=" + store.Folder, Capture: "bind"})
}

// The list has every number once.
func TestNumbers(t *testing.T) {
	for i, c := range Cases() {
		if c.Number != i+1 {
			t.Fatalf("case %d is where case %d should be", c.Number, i+1)
		}
	}
	if n := len(Cases()); n != total {
		t.Errorf("%d cases", n)
	}
}
