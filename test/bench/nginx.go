package bench

import (
	"fmt"
	"path/filepath"
	"strings"
)

const nginxPort = 5300

// nginxConfig is a proxy with two workers that writes a line of each connection or session, in
// blocks. It listens on the one address that clients are redirected to.
const nginxConfig = `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log error.log error;
events {
	worker_connections 18000;
	multi_accept on;
}
stream {
	log_format session escape=json '{"client_ip":"$remote_addr","client_port":$remote_port,'
		'"listener":"$server_addr:$server_port","backend":"$upstream_addr","status":$status,'
		'"bytes_in":$bytes_received,"bytes_out":$bytes_sent,"duration_s":$session_time,"at":"$time_iso8601"}';
	access_log session.log session buffer=64k flush=1s;
	upstream servers {
%s
	}
	server {
		listen %s:%d %s;
		proxy_pass servers;
		%s
	}
}
`

// What nginx did best with. For UDP it keeps sessions: with proxy_responses 1, which ends one
// with the answer, queries of many clients take twice the time. It listens on one address and so
// needs no packet info, takes all datagrams that wait (multi_accept), and has buffers no larger
// than DNS needs. For TCP each worker has a listener of its own, and idle connections may stay.
var nginxTuning = map[string]struct{ listen, server string }{
	"udp": {"udp reuseport", "proxy_timeout 120s; proxy_buffer_size 4k;"},
	"tcp": {"reuseport backlog=4096", "proxy_timeout 1h;"},
}

func startNginx(l *lab) route {
	var servers []string
	for _, pod := range l.servers {
		servers = append(servers, fmt.Sprintf("\t\tserver %s;", pod.AddrPort4(l.proto.port)))
	}
	dir := l.t.TempDir()
	output := filepath.Join(dir, "output")
	tuning := nginxTuning[l.proto.transport]
	l.write(dir, "nginx.conf", fmt.Sprintf(nginxConfig, strings.Join(servers, "\n"),
		l.Bridge4, nginxPort, tuning.listen, tuning.server))
	l.redirect(nginxPort)
	c := l.launch(l.NS, output, "nginx", "-p", dir, "-c", "nginx.conf", "-e", "error.log")
	return route{addr: l.proto.service, proxy: c, output: output}
}
