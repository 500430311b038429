package handover

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
)

// A peer is another proxy, which can read its configuration anew.
type peer struct {
	name  string
	start func(*site, []*load.Service) (process *netns.Cmd, reload func() error)
}

var peers = []peer{{"haproxy", startHAProxy}, {"nginx", startNginx}}

// haproxyConfig has a listener for each Service. When it reloads, the new worker gets the
// listening sockets from the old one, which goes on with its connections.
const haproxyConfig = `
global
	nbthread 2
	maxconn 7000
	maxpipes 500
	stats socket %s mode 600 level admin expose-fd listeners
defaults
	mode tcp
	option splice-auto
	timeout connect 5s
	timeout client 1h
	timeout server 1h
`

func startHAProxy(s *site, services []*load.Service) (*netns.Cmd, func() error) {
	s.t.Helper()
	dir := s.t.TempDir()
	var text strings.Builder
	fmt.Fprintf(&text, haproxyConfig, filepath.Join(dir, "stats"))
	for i, one := range services {
		fmt.Fprintf(&text, "listen %s\n\tbind :::%d v4v6 backlog 4096\n", one.Name, s.redirect(i, one))
		for _, pod := range one.Pods {
			fmt.Fprintf(&text, "\tserver %s %s:%d\n", pod.Name, pod.IPv4, one.Port)
		}
	}
	config, master := s.file(dir, "haproxy.cfg", text.String()), filepath.Join(dir, "master")
	c := s.launch(dir, "haproxy", "-W", "-db", "-S", "unix@"+master+",mode,600", "-f", config)
	return c, func() error {
		conn, err := net.Dial("unix", master)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "reload\n"); err != nil {
			return err
		}
		_, err = io.ReadAll(conn) // the master executes itself
		return err
	}
}

// nginxConfig has a listener for each Service. When it reloads, new workers have the listening
// sockets of the master, and the old ones go on with their connections.
const nginxConfig = `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log error.log error;
events { worker_connections 18000; multi_accept on; }
stream {
`

func startNginx(s *site, services []*load.Service) (*netns.Cmd, func() error) {
	s.t.Helper()
	dir := s.t.TempDir()
	var text strings.Builder
	text.WriteString(nginxConfig)
	for i, one := range services {
		fmt.Fprintf(&text, "\tupstream %s {\n", one.Name)
		for _, pod := range one.Pods {
			fmt.Fprintf(&text, "\t\tserver %s:%d;\n", pod.IPv4, one.Port)
		}
		fmt.Fprintf(&text, "\t}\n\tserver { listen [::]:%d ipv6only=off backlog=4096; proxy_pass %s; proxy_timeout 1h; proxy_half_close on; }\n", s.redirect(i, one), one.Name)
	}
	s.file(dir, "nginx.conf", text.String()+"}\n")
	c := s.launch(dir, "nginx", "-p", dir, "-c", "nginx.conf", "-e", "error.log")
	return c, func() error { return c.Process.Signal(syscall.SIGHUP) }
}

// firstIdle is the number of the first Service that nobody asks for.
const firstIdle = 100

// redirect leads who asks for a Service to the n-th port of a proxy, which it returns.
func (s *site) redirect(n int, to *load.Service) int {
	s.t.Helper()
	port := 11000 + n
	if to.N >= firstIdle {
		return port // nobody asks
	}
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		for six, program := range map[bool]string{false: "iptables", true: "ip6tables"} {
			s.Run(program, "-t", "nat", "-A", chain, "-d", to.Addr(six).Addr().String(), "-p", "tcp", "--dport", fmt.Sprint(load.ServicePort), "-j", "REDIRECT", "--to-ports", fmt.Sprint(port))
		}
	}
	return port
}

func (s *site) file(dir, name, text string) string {
	s.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// launch starts a program that writes its output to a file and ends with the test.
func (s *site) launch(dir, name string, args ...string) *netns.Cmd {
	s.t.Helper()
	f, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	c := s.Command(context.Background(), name, args...)
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if said, err := os.ReadFile(f.Name()); err == nil && s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, said)
		}
	})
	return c
}
