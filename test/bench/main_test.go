package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

func TestMain(m *testing.M) {
	holdIfAsked()
	flag.Parse()
	// Each measurement lasts as long as it says, once.
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	netns.Main(m, usher.Build, raiseFileLimit)
}
