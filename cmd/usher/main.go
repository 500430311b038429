// Command usher is a userspace Service proxy for Kubernetes nodes.
package main

import (
	"os"

	"github.com/usher-proxy/usher/cmd/usher/cli"
)

func main() { os.Exit(cli.Main(nil)) }
