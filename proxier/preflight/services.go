package preflight

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/source"
)

// services looks at where Services come from.
func services(ctx context.Context, n *node) Result {
	if len(n.Manifests) > 0 {
		return manifests(n.Manifests)
	}
	if n.REST == nil {
		return fail(fmt.Sprintf("no API server is known: %v", n.RESTError), "give --kubeconfig, or --manifests to serve Services from files")
	}
	if n.Proxier.KubeProxy != proxier.BesideKubeProxy {
		log := logrus.New()
		log.SetOutput(io.Discard)
		if err := source.CheckAPIAddress(ctx, n.REST, proxier.Leftover(ctx), log); err != nil {
			return fail(oneLine(err), "make the API server reachable without a Service")
		}
	}
	access, err := source.CheckAccess(ctx, n.REST, n.Proxier.NodeName)
	n.services = access.Services
	switch {
	case err != nil && access.Version == "":
		return fail(fmt.Sprintf("the API server %s does not answer: %s", access.Address, oneLine(err)),
			"check that it runs, that this node reaches it, and the address and credentials in --kubeconfig")
	case err != nil:
		return warn(fmt.Sprintf("the API server %s (%s) does not tell what usher may do: %s", access.Address, access.Version, oneLine(err)),
			"look whether the role of usher's user may list and watch services, endpointslices and nodes")
	case len(access.Denied) > 0:
		return fail(fmt.Sprintf("the API server %s (%s) forbids usher to %s", access.Address, access.Version, strings.Join(access.Denied, ", ")),
			"bind a ClusterRole to usher's user that allows it, such as the one of kube-proxy, system:node-proxier")
	case access.DeniedEvents:
		return warn(fmt.Sprintf("the API server %s (%s) forbids usher to create events", access.Address, access.Version),
			"bind a ClusterRole to usher's user that allows it, if problems of Services are to be seen there")
	}
	return ok(fmt.Sprintf("the API server %s (%s) answers and allows what usher needs; it has %s", access.Address, access.Version, count(access.Services, "Service")))
}

func manifests(paths []string) Result {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return fail(fmt.Sprintf("manifests cannot be read: %v", err), "correct --manifests, or the rights of the file or folder")
		}
		f.Close()
	}
	return ok("manifests can be read: " + strings.Join(paths, ", "))
}

// oneLine lets an error stand in a line of the report.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// count is as in "1 Service", "2 Services", "an unknown number of Services".
func count(n int, what string) string {
	switch n {
	case -1:
		return "an unknown number of " + what + "s"
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
