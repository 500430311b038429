package node

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

func TestMain(m *testing.M) { netns.Main(m, usher.Build) }

// scene is a node with two pods that answer on port 8080 and one that asks.
type scene struct {
	*netns.Node
	t      *testing.T
	folder string // of manifests
	pods   []*netns.Pod
	client *netns.Pod
	routed *netns.Pod
}

func newScene(t *testing.T) *scene {
	s := newSceneOfPods(t)
	for _, pod := range s.pods {
		pod.ServeHTTP(pod.Name, pod.AddrPort4(8080))
	}
	return s
}

// newSceneOfPods is a scene in which nobody answers yet.
func newSceneOfPods(t *testing.T) *scene {
	s := &scene{Node: netns.NewNode(t, "node"), t: t, folder: t.TempDir()}
	for i := range 2 {
		s.pods = append(s.pods, s.AddPod(netns.Bridged, fmt.Sprintf("pod-%d", i+1)))
	}
	s.client = s.AddPod(netns.Bridged, "client")
	s.routed = s.AddPod(netns.Routed, "routed")
	return s
}

// start starts usher on the node's manifests.
func (s *scene) start(args ...string) *usher.Process {
	s.t.Helper()
	return usher.Start(s.t, s.NS, s.args(args...)...)
}

func (s *scene) args(more ...string) []string {
	return append([]string{"--manifests=" + s.folder, "--capture=iptables"}, more...)
}

// write writes one manifest.
func (s *scene) write(file, text string) {
	s.t.Helper()
	path := filepath.Join(s.folder, file)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) remove(file string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.folder, file)); err != nil {
		s.t.Fatal(err)
	}
}

// manifest is a Service with the n-th address, and endpoints on port 8080.
func manifest(name string, n int, nodePort int, endpoints ...netip.Addr) string {
	var list []string
	for _, e := range endpoints {
		list = append(list, fmt.Sprintf("{addresses: [%s]}", e))
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  type: NodePort
  clusterIP: 10.96.0.%[2]d
  ports: [{name: http, port: 80, nodePort: %[3]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [%[4]s]
`, name, n, nodePort, strings.Join(list, ", "))
}

func vip(n int) string { return fmt.Sprintf("http://10.96.0.%d", n) }

// served waits until a URL is answered in a namespace.
func served(t *testing.T, from *netns.NS, url string) {
	t.Helper()
	netns.Eventually(t, url+" is served from "+from.Name, func() error {
		if err := connect(t, from, url); err != nil {
			return err
		}
		_, err := from.Get(url)
		return err
	})
}

// connect tries to reach the host of a URL. It is impatient: a SYN that leaves
// before there is a rule for it is lost with all its repetitions.
func connect(t *testing.T, from *netns.NS, target string) error {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	conn, err := from.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
	if err == nil {
		conn.Close()
	}
	return err
}

// listenerPort is where the rules lead the connections to the n-th address.
func (s *scene) listenerPort(n int) (port uint16) {
	s.t.Helper()
	rules := s.Run("iptables-save", "-t", "nat")
	for _, line := range strings.Split(rules, "\n") {
		if strings.Contains(line, fmt.Sprintf("-d 10.96.0.%d/32", n)) && strings.Contains(line, "REDIRECT") {
			_, to, _ := strings.Cut(line, "--to-ports ")
			fmt.Sscan(to, &port)
		}
	}
	if port == 0 {
		s.t.Fatalf("no rule leads connections to 10.96.0.%d anywhere:\n%s", n, rules)
	}
	return port
}
