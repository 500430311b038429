package dns

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"text/template"

	"github.com/usher-proxy/usher/test/netns"
)

// name is that of the one zone. Its TXT record is the name of the server that is asked.
const name = "whoami.test."

var zone = template.Must(template.New("zone").Parse(`$ORIGIN ` + name + `
$TTL 0
@ SOA ns hostmaster 1 3600 600 86400 0
@ NS ns
@ TXT "{{.Name}}"
ns A 192.0.2.1
`))

// config keeps nsd from everything but answering: it needs no user or folder of its own, takes
// no commands and does not hold back answers to a client that asks often.
var config = template.Must(template.New("config").Parse(`server:
	ip-address: {{.Addr.Addr}}@{{.Addr.Port}}
	server-count: 1
	username: ""
	chroot: ""
	database: ""
	pidfile: ""
	zonesdir: "{{.Dir}}"
	xfrdir: "{{.Dir}}"
	xfrdfile: "{{.Dir}}/xfrd.state"
	zonelistfile: "{{.Dir}}/zone.list"
	rrl-ratelimit: 0
remote-control:
	control-enable: no
zone:
	name: ` + name + `
	zonefile: zone
`))

// A Server is an nsd that runs. It serves UDP and TCP and ends with the test.
type Server struct {
	Name string // what it answers
	Addr netip.AddrPort

	cmd *netns.Cmd
}

// Serve runs nsd at an address of the namespace, which must not be a wildcard, and waits until
// it answers.
func Serve(t testing.TB, ns *netns.NS, name string, addr netip.AddrPort) *Server {
	t.Helper()
	dir := t.TempDir()
	settings := struct {
		Name, Dir string
		Addr      netip.AddrPort
	}{name, dir, addr}
	for file, text := range map[string]*template.Template{"zone": zone, "nsd.conf": config} {
		var out bytes.Buffer
		err := text.Execute(&out, settings)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), out.Bytes(), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{Name: name, Addr: addr, cmd: ns.Command(context.Background(), "nsd", "-d", "-c", filepath.Join(dir, "nsd.conf"))}
	var log bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &log, &log
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%v; it is in the package nsd", err)
	}
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Logf("nsd %s at %s said:\n%s", name, addr, log.Bytes())
		}
	})
	netns.Eventually(t, fmt.Sprintf("nsd %s answers at %s", name, addr), func() error {
		answer, err := Client{NS: ns}.Whoami(addr)
		if err == nil && answer != name {
			err = fmt.Errorf("%s answers", answer)
		}
		return err
	})
	return s
}

// Close kills the server: from now on its port refuses. It may be called any number of times.
func (s *Server) Close() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}
