package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// usherManifest is a Service with the servers as its endpoints.
const usherManifest = `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  clusterIP: %[2]s
  ports: [{name: port, protocol: %[3]s, port: %[4]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: port, protocol: %[3]s, port: %[5]d}]
endpoints: [%[6]s]
`

// usherTuning are the flags for a transport. For TCP there are none.
var usherTuning = map[string][]string{
	"udp": {"--udp-max-sessions=12000", "--udp-max-sessions-per-service=12000"},
}

// startUsher runs the usher that package usher of the tests builds, or USHER_TEST_BINARY names.
func startUsher(l *lab) route {
	return startUsherWith(l, l.manifest("servers", l.proto.service.Addr()))
}

// manifest describes a Service of the servers with this address.
func (l *lab) manifest(name string, addr netip.Addr) string {
	var endpoints []string
	for _, pod := range l.servers {
		endpoints = append(endpoints, fmt.Sprintf("{addresses: [%s]}", pod.IPv4))
	}
	return fmt.Sprintf(usherManifest, name, addr, strings.ToUpper(l.proto.transport),
		l.proto.service.Port(), l.proto.port, strings.Join(endpoints, ", "))
}

func startUsherWith(l *lab, manifests string, flags ...string) route {
	dir := l.t.TempDir()
	l.write(dir, "services.yaml", manifests)
	output := filepath.Join(l.t.TempDir(), "log")
	args := []string{"run", "--manifests=" + dir, "--node-name=node", "--capture=iptables", "--log-format=json"}
	args = append(args, usherTuning[l.proto.transport]...)
	args = append(args, strings.Fields(*usherFlags)...)
	args = append(args, flags...)
	c := l.launch(l.NS, output, os.Getenv("USHER_TEST_BINARY"), args...)
	return route{addr: l.proto.service, proxy: c, output: output}
}
