package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// usherManifest is a Service with the servers as its endpoints.
const usherManifest = `
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  clusterIP: %s
  ports: [{name: dns, protocol: UDP, port: %d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: dns, protocol: UDP, port: %d}]
endpoints: [%s]
`

// startUsher runs the usher that package usher of the tests builds, or USHER_TEST_BINARY names.
func startUsher(l *lab) route {
	var endpoints []string
	for _, pod := range l.servers {
		endpoints = append(endpoints, fmt.Sprintf("{addresses: [%s]}", pod.IPv4))
	}
	dir := l.b.TempDir()
	l.write(dir, "dns.yaml", fmt.Sprintf(usherManifest,
		service.Addr(), service.Port(), dnsPort, strings.Join(endpoints, ", ")))
	output := filepath.Join(l.b.TempDir(), "log")
	args := append([]string{"run", "--manifests=" + dir, "--node-name=node", "--capture=iptables", "--log-format=json"},
		strings.Fields(*usherFlags)...)
	c := l.launch(output, os.Getenv("USHER_TEST_BINARY"), args...)
	return route{addr: service, proxy: c, output: output}
}
