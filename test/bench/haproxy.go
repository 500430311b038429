package bench

import (
	"fmt"
	"path/filepath"
	"strings"
)

const haproxyPort = 5400

// haproxyConfig passes TCP on with two threads, by splice where it thinks that it pays. It
// writes a line of each connection to its standard output, a file. The limits let it hold the
// idle connections, and their pipes, with the 20,000 files that it may have.
const haproxyConfig = `
global
	nbthread 2
	maxconn 9000
	maxpipes 500
	log stdout len 2048 format raw local0 info
defaults
	mode tcp
	log global
	option tcplog
	option splice-auto
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen servers
	bind %s:%d backlog 4096
	balance roundrobin
%s
`

func startHAProxy(l *lab) route {
	var servers []string
	for _, pod := range l.servers {
		servers = append(servers, fmt.Sprintf("\tserver %s %s", pod.Name, pod.AddrPort4(l.proto.port)))
	}
	dir := l.t.TempDir()
	output := filepath.Join(dir, "output")
	config := l.write(dir, "haproxy.cfg", fmt.Sprintf(haproxyConfig, l.Bridge4, haproxyPort, strings.Join(servers, "\n")))
	l.redirect(haproxyPort)
	c := l.launch(l.NS, output, "haproxy", "-db", "-f", config)
	return route{addr: l.proto.service, proxy: c, output: output}
}
