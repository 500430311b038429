package udp

import (
	"os"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(successorEnv) != "" {
		succeed()
		return
	}
	netns.Main(m)
}
