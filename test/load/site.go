package load

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// A Site is a node whose pods serve, for an usher to run on: one that has its manifests in a
// folder, and its admin socket at a path.
type Site struct {
	*netns.Node
	Folder, Socket string
	Pods           []*netns.Pod
	Clients        []*netns.NS // a bridged pod, a routed one, the node itself, and a machine outside

	t testing.TB
}

// NewSite makes a node, a folder and a path.
func NewSite(t testing.TB) *Site {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "manifests")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return NewSiteOn(t, netns.NewNode(t, "node"), folder, filepath.Join(dir, "usher.sock"))
}

// NewSiteOn adds pods to a node that has none, and leads its client to Services.
func NewSiteOn(t testing.TB, node *netns.Node, folder, socket string) *Site {
	t.Helper()
	s := &Site{Node: node, Folder: folder, Socket: socket, t: t}
	for i := range 3 {
		s.Pods = append(s.Pods, s.AddPod(netns.Bridged, fmt.Sprintf("pod-%d", i+1)))
	}
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	bridged, routed := s.AddPod(netns.Bridged, "client"), s.AddPod(netns.Routed, "routed")
	for _, pod := range []*netns.Pod{bridged, routed} { // many connections for a client
		pod.Sysctl("net/ipv4/ip_local_port_range", "1025 65535")
	}
	s.Clients = []*netns.NS{bridged.NS, routed.NS, s.NS, s.Client}
	return s
}

// Ask runs a command against the site's usher, which has to end with this code.
func (s *Site) Ask(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	stdout, stderr, got := usher.Run(s.t, s.NS, append(args, "--admin-socket="+s.Socket)...)
	if got != code {
		s.t.Fatalf("usher %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	return stdout, stderr
}

// AskJSON has a command answer into what.
func (s *Site) AskJSON(what any, args ...string) {
	s.t.Helper()
	out, _ := s.Ask(0, append(args, "--output=json")...)
	if err := json.Unmarshal([]byte(out), what); err != nil {
		s.t.Fatalf("usher %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Status is what usher tells of itself.
type Status struct {
	Version               string
	Started               time.Time
	Upgrades, Connections int
	Ready                 bool
}

// StartedWith says whether both are of one start: each process computes the time of day anew.
func (s Status) StartedWith(other Status) bool {
	return s.Started.Sub(other.Started).Abs() < 10*time.Millisecond
}

func (s *Site) Status() (of Status) {
	s.t.Helper()
	s.AskJSON(&of, "status")
	return of
}

// AwaitUpgrades waits until usher has been upgraded so often.
func (s *Site) AwaitUpgrades(n int) {
	s.t.Helper()
	netns.EventuallyWithin(s.t, 30*time.Second, fmt.Sprintf("upgrade %d", n), func() error {
		out, faults, code := usher.Run(s.t, s.NS, "status", "--output=json", "--admin-socket="+s.Socket)
		var now Status
		if code != 0 || json.Unmarshal([]byte(out), &now) != nil || now.Upgrades < n {
			return fmt.Errorf("exit code %d: %s%s", code, out, faults)
		}
		return nil
	})
}

// LeavesNothing wants nothing of usher's in the kernel.
func (s *Site) LeavesNothing() {
	s.t.Helper()
	for _, command := range [][]string{{"ip", "rule"}, {"ip", "-6", "rule"}, {"ip", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"}, {"iptables-save"}, {"ip6tables-save"}} {
		out := s.Run(command[0], command[1:]...)
		for _, mine := range []string{"USHER", "0x40/0x40", "87437", "0x20/0x20", "10.96.", "fd00:10:96:"} {
			if strings.Contains(out, mine) {
				s.t.Errorf("%s is left:\n%s\n%s", mine, strings.Join(command, " "), out)
			}
		}
	}
	if out := s.Run("ss", "-Htlun"); strings.TrimSpace(out) != "" {
		s.t.Errorf("somebody listens:\n%s", out)
	}
	if _, err := os.Stat(s.Socket); err == nil {
		s.t.Error("the admin socket is left")
	}
}
