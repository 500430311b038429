package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// TestMain enters namespaces only for benchmarks. The tests need none.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		os.Exit(m.Run())
	}
	// Each measurement lasts as long as it says, once.
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	netns.Main(m, usher.Build, raiseFileLimit)
}
