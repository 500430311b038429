package takeover

import (
	"os"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

func TestMain(m *testing.M) {
	if os.Getenv(stopEnv) != "" {
		playPeer()
		return
	}
	netns.Main(m, usher.Build)
}
