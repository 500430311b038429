// Command usher-tenants is usher with one balancer policy more: by-tenant, which
// gives each network of clients endpoints of its own.
//
//	go run ./examples/custom-balancer run --manifests examples/custom-balancer --capture=bind
//
// A Service chooses it by the annotation usher-proxy.io/balancer: by-tenant, or all
// do by --balancer=by-tenant. Everything else is as in usher.
package main

import (
	"os"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/cmd/usher/cli"
)

func main() {
	os.Exit(cli.Main(cli.Policies{
		"by-tenant": func() balancer.Policy { return new(byTenant) },
	}))
}
