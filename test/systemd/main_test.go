package systemd

import (
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

func TestMain(m *testing.M) { netns.Main(m, Build) }
