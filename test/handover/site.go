package handover

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// A site is a node whose pods serve, with an usher on it.
type site struct {
	*netns.Node
	t       testing.TB
	folder  string // of manifests
	pods    []*netns.Pod
	clients []*netns.NS // a bridged pod, a routed one, the node itself, and a machine outside
	usher   *usher.Process
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{Node: netns.NewNode(t, "node"), t: t, folder: t.TempDir()}
	for i := range 3 {
		s.pods = append(s.pods, s.AddPod(netns.Bridged, fmt.Sprintf("pod-%d", i+1)))
	}
	s.RouteFromClient(netns.ServiceCIDRv4, netns.ServiceCIDRv6)
	bridged, routed := s.AddPod(netns.Bridged, "client"), s.AddPod(netns.Routed, "routed")
	for _, pod := range []*netns.Pod{bridged, routed} { // many connections for a client
		pod.Sysctl("net/ipv4/ip_local_port_range", "1025 65535")
	}
	s.clients = []*netns.NS{bridged.NS, routed.NS, s.NS, s.Client}
	return s
}

// start starts usher by the test's binary.
func (s *site) start(flags ...string) { s.startBy(usher.Binary(), flags...) }

// startBy starts usher by a program.
func (s *site) startBy(path string, flags ...string) {
	s.t.Helper()
	flags = append([]string{"--manifests=" + s.folder, "--admin-socket=" + s.socket(), "--drain-timeout=5s"}, flags...)
	s.usher = usher.StartProgram(s.t, s.NS, path, flags...)
}

// launchBy starts usher without manifests, and does not wait until it is ready.
func (s *site) launchBy(flags ...string) {
	s.t.Helper()
	s.usher = usher.Launch(s.t, s.NS, append([]string{"run", "--log-format=json", "--admin-socket=" + s.socket()}, flags...)...)
}

// answers says whether usher can be asked.
func (s *site) answers() error {
	_, faults, code := usher.Run(s.t, s.NS, "status", "--admin-socket="+s.socket())
	if code != 0 && code != 1 { // it may serve nothing yet
		return fmt.Errorf("exit code %d: %s", code, faults)
	}
	return nil
}

func (s *site) socket() string { return filepath.Join(filepath.Dir(s.folder), "usher.sock") }

// ask runs a command against the site's usher, which has to end with this code.
func (s *site) ask(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	stdout, stderr, got := usher.Run(s.t, s.NS, append(args, "--admin-socket="+s.socket())...)
	if got != code {
		s.t.Fatalf("usher %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	return stdout, stderr
}

// askJSON has a command answer into what.
func (s *site) askJSON(what any, args ...string) {
	s.t.Helper()
	out, _ := s.ask(0, append(args, "--output=json")...)
	if err := json.Unmarshal([]byte(out), what); err != nil {
		s.t.Fatalf("usher %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// status is what usher tells of itself.
type status struct {
	Version               string
	Started               time.Time
	Upgrades, Connections int
	Ready                 bool
}

// startedWith: each process computes the time of day anew.
func (s status) startedWith(other status) bool {
	return s.Started.Sub(other.Started).Abs() < 10*time.Millisecond
}

func (s *site) status() (of status) {
	s.t.Helper()
	s.askJSON(&of, "status")
	return of
}

// awaitUpgrades waits until usher has been upgraded so often.
func (s *site) awaitUpgrades(n int) {
	s.t.Helper()
	netns.EventuallyWithin(s.t, 30*time.Second, fmt.Sprintf("upgrade %d", n), func() error {
		out, faults, code := usher.Run(s.t, s.NS, "status", "--output=json", "--admin-socket="+s.socket())
		var now status
		if code != 0 || json.Unmarshal([]byte(out), &now) != nil || now.Upgrades < n {
			return fmt.Errorf("exit code %d: %s%s", code, out, faults)
		}
		return nil
	})
}

// A service is one with a port, an address of each family, and endpoints.
type service struct {
	Name     string
	N        int // its addresses end so
	Protocol string
	Port     uint16            // of the endpoints
	Asks     map[string]string // annotations, without their prefix
	Sticky   bool
	Only4    bool // without an IPv6 address
	idle     bool // nobody asks for it
	Pods     []*netns.Pod
}

const servicePort = 80

// addr is where clients of one family find it.
func (s *service) addr(six bool) netip.AddrPort { return addrOf(s.N, six) }

// addrOf is the n-th address.
func addrOf(n int, six bool) netip.AddrPort {
	if six {
		return netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", n)), servicePort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}), servicePort)
}

var manifest = template.Must(template.New("").Parse(`---
apiVersion: v1
kind: Service
metadata:
  name: {{.Name}}
  annotations: { {{range $k, $v := .Asks}}usher-proxy.io/{{$k}}: "{{$v}}", {{end}} }
spec:
  ipFamilyPolicy: {{if .Only4}}SingleStack{{else}}RequireDualStack{{end}}
  clusterIP: {{(.At false).Addr}}
  clusterIPs: [{{range .Families}}"{{($.At .).Addr}}", {{end}}]
  sessionAffinity: {{if .Sticky}}ClientIP{{else}}None{{end}}
  ports: [{name: port, protocol: {{.Protocol}}, port: {{(.At false).Port}}}]
{{range $six := .Families}}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: "{{$.Name}}-{{$six}}", labels: {kubernetes.io/service-name: {{$.Name}}}}
addressType: {{if $six}}IPv6{{else}}IPv4{{end}}
ports: [{name: port, protocol: {{$.Protocol}}, port: {{$.Port}}}]
endpoints: [{{range $.Pods}}{addresses: ["{{if $six}}{{.IPv6}}{{else}}{{.IPv4}}{{end}}"]}, {{end}}]
{{end}}`))

// At is for the template, as Families is.
func (s *service) At(six bool) netip.AddrPort { return s.addr(six) }

func (s *service) Families() []bool {
	if s.Only4 {
		return []bool{false}
	}
	return []bool{false, true}
}

// write writes a file of Services.
func (s *site) write(file string, services ...*service) {
	s.t.Helper()
	var text strings.Builder
	for _, one := range services {
		if err := manifest.Execute(&text, one); err != nil {
			s.t.Fatal(err)
		}
	}
	path := filepath.Join(s.folder, file)
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

// leavesNothing wants nothing of usher's in the kernel.
func (s *site) leavesNothing() {
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
	if _, err := os.Stat(s.socket()); err == nil {
		s.t.Error("the admin socket is left")
	}
}
