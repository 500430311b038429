package takeover

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

const patience = 20 * time.Second

// scene is a node with a Service of TCP and UDP, the clients of which are in a pod.
type scene struct {
	*netns.Node
	t      *testing.T
	folder string // of manifests
	socket string
	client *netns.Pod
}

func newScene(t *testing.T) *scene {
	s := &scene{Node: netns.NewNode(t, "node"), t: t, folder: t.TempDir(), socket: filepath.Join(t.TempDir(), "usher.sock")}
	var endpoints []string
	for n := range 2 {
		pod := s.AddPod(netns.Bridged, fmt.Sprintf("pod-%d", n+1))
		pod.ServeTCPEcho(pod.AddrPort4(8080))
		pod.ServeUDPEcho(pod.AddrPort4(8080))
		endpoints = append(endpoints, fmt.Sprintf("{addresses: [%s]}", pod.IPv4))
	}
	s.client = s.AddPod(netns.Bridged, "client")
	manifest := fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, protocol: UDP, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{name: tcp, port: 8080}, {name: udp, protocol: UDP, port: 8080}]
endpoints: [%s]
`, strings.Join(endpoints, ", "))
	if err := os.WriteFile(filepath.Join(s.folder, "echo.yaml"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scene) dial(network string) (net.Conn, error) {
	return s.client.Dial(network, "10.96.0.10:80")
}

func (s *scene) args(more ...string) []string {
	return append([]string{"run", "--manifests=" + s.folder, "--capture=iptables", "--node-name=node", "--admin-socket=" + s.socket,
		"--log-format=json", "--log-connections=off"}, more...)
}

// start starts the first usher and waits until it serves.
func (s *scene) start(more ...string) *usher.Process {
	s.t.Helper()
	u := usher.Launch(s.t, s.NS, s.args(more...)...)
	netns.EventuallyWithin(s.t, patience, "usher serves", func() error {
		if now, err := s.status(); err != nil || !now.Ready {
			return fmt.Errorf("ready: %v, %w", now.Ready, err)
		}
		return nil
	})
	return u
}

// pod is what a container runtime puts before a command line: namespaces of its own.
var pod = []string{"unshare", "--pid", "--mount", "--fork", "--kill-child=SIGKILL", "--mount-proc"}

// takeOver starts an usher that takes over.
func (s *scene) takeOver(more ...string) *usher.Process {
	s.t.Helper()
	return usher.Launch(s.t, s.NS, s.args(append(more, "--take-over")...)...)
}

// status is what the usher that answers tells of itself.
func (s *scene) status() (now admin.Status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err = admin.Get(ctx, s.socket, "/v1/status", nil, &now)
	return now, err
}

// serves waits until the usher that answers is the one after so many take-overs.
func (s *scene) serves(upgrades int) {
	s.t.Helper()
	netns.EventuallyWithin(s.t, patience, fmt.Sprintf("usher serves after %d take-overs", upgrades), func() error {
		now, err := s.status()
		if err == nil && (!now.Ready || now.Upgrades != upgrades) {
			err = fmt.Errorf("ready: %v, %d take-overs", now.Ready, now.Upgrades)
		}
		return err
	})
}

var pauseField = regexp.MustCompile(`"pause_ms":([0-9.]+)`)

// pauseOf is how long it says that nobody was served before it.
func pauseOf(t *testing.T, u *usher.Process) time.Duration {
	t.Helper()
	u.WaitLog("went on with")
	found := pauseField.FindStringSubmatch(u.Log())
	if found == nil {
		t.Fatal("it does not tell the pause")
	}
	ms, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// parked waits until a process does nothing any more but wait for SIGTERM, and ends it. It has
// no socket that the one has that serves.
func parked(t *testing.T, u, serves *usher.Process) {
	t.Helper()
	u.WaitLog("waiting for SIGTERM")
	theirs := sockets(t, processOf(t, serves))
	for socket := range sockets(t, processOf(t, u)) {
		if theirs[socket] {
			t.Errorf("it still has %s", socket)
		}
	}
	began := time.Now()
	if code := stop(t, u); code != 0 || time.Since(began) > 2*time.Second {
		t.Errorf("SIGTERM has ended it with exit code %d after %v", code, time.Since(began))
	}
}

// sockets are those that a process has, by what the kernel calls them.
func sockets(t *testing.T, pid int) map[string]bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]bool{}
	for _, f := range files {
		if at, _ := os.Readlink(filepath.Join(dir, f.Name())); strings.HasPrefix(at, "socket:") {
			list[at] = true
		}
	}
	return list
}

// processOf is the number of usher itself, if it is under a runtime.
func processOf(t *testing.T, u *usher.Process) int {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", u.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if child, err := strconv.Atoi(strings.TrimSpace(string(children))); err == nil {
		return child
	}
	return u.PID()
}

// settle waits until the load has gone on for a while.
func settle(t *testing.T, l *load) {
	t.Helper()
	connections, bytes := l.connections.Load()+20, l.bytes.Load()+1<<20
	netns.EventuallyWithin(t, patience, "the load goes on", func() error {
		if c, b := l.connections.Load(), l.bytes.Load(); c < connections || b < bytes {
			return fmt.Errorf("%d connections, %d bytes", c, b)
		}
		return nil
	})
}

// stop ends it by SIGTERM, which unshare does not pass on.
func stop(t *testing.T, u *usher.Process) int {
	t.Helper()
	if err := syscall.Kill(processOf(t, u), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return u.Wait()
}
