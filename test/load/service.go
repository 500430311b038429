package load

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/usher-proxy/usher/test/netns"
)

// A Service is one with a port, an address of each family, and endpoints.
type Service struct {
	Name     string
	N        int // its addresses end so
	Protocol string
	Port     uint16            // of the endpoints
	Asks     map[string]string // annotations, without their prefix
	Sticky   bool
	Only4    bool // without an IPv6 address
	Pods     []*netns.Pod

	shuns *netns.Pod // which may not be led to, though it is an endpoint
}

// ServicePort is where clients find every one.
const ServicePort = 80

// Addr is where clients of one family find it.
func (s *Service) Addr(six bool) netip.AddrPort {
	if six {
		return netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", s.N)), ServicePort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(s.N >> 8), byte(s.N)}), ServicePort)
}

var manifest = template.Must(template.New("").Parse(`---
apiVersion: v1
kind: Service
metadata:
  name: {{.Name}}
  annotations: { {{range $k, $v := .Asks}}usher-proxy.io/{{$k}}: "{{$v}}", {{end}} }
spec:
  ipFamilyPolicy: {{if .Only4}}SingleStack{{else}}RequireDualStack{{end}}
  clusterIP: {{(.Addr false).Addr}}
  clusterIPs: [{{range .Families}}"{{($.Addr .).Addr}}", {{end}}]
  sessionAffinity: {{if .Sticky}}ClientIP{{else}}None{{end}}
  ports: [{name: port, protocol: {{.Protocol}}, port: {{(.Addr false).Port}}}]
{{range $six := .Families}}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: "{{$.Name}}-{{$six}}", labels: {kubernetes.io/service-name: {{$.Name}}}}
addressType: {{if $six}}IPv6{{else}}IPv4{{end}}
ports: [{name: port, protocol: {{$.Protocol}}, port: {{$.Port}}}]
endpoints: [{{range $.Pods}}{addresses: ["{{if $six}}{{.IPv6}}{{else}}{{.IPv4}}{{end}}"]}, {{end}}]
{{end}}`))

// Families are those that it has, each by whether it is IPv6.
func (s *Service) Families() []bool {
	if s.Only4 {
		return []bool{false}
	}
	return []bool{false, true}
}

// Write writes a file of Services.
func (s *Site) Write(file string, services ...*Service) {
	s.t.Helper()
	var text strings.Builder
	for _, one := range services {
		if err := manifest.Execute(&text, one); err != nil {
			s.t.Fatal(err)
		}
	}
	path := filepath.Join(s.Folder, file)
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}
