package limit

import (
	"os"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		serve()
		return
	}
	netns.Main(m)
}
