package handover

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Other ushers than that of the tests.
const (
	next, older = "NEXT", "OLDER"
	nextVersion = "v9.8.7"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The benchmark lasts as long as it says, once.
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	netns.Main(m, usher.Build,
		usher.BuildVariant(next, "cmd/usher/cli.version="+nextVersion),
		usher.BuildVariant(older, "proxier.handoverFormat=0"))
}
