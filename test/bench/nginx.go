package bench

import (
	"fmt"
	"path/filepath"
	"strings"
)

const nginxPort = 5300

// nginxConfig is what nginx did best with. It keeps sessions: with proxy_responses 1, which ends
// one with the answer, queries of many clients take twice the time. It listens on the one
// address that clients are redirected to and so needs no packet info, takes all datagrams that
// wait (multi_accept), has buffers no larger than DNS needs, and writes its log in blocks.
const nginxConfig = `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes 2;
pid nginx.pid;
error_log error.log error;
events {
	worker_connections 16384;
	multi_accept on;
}
stream {
	log_format session escape=json '{"client_ip":"$remote_addr","client_port":$remote_port,'
		'"listener":"$server_addr:$server_port","backend":"$upstream_addr","status":$status,'
		'"bytes_in":$bytes_received,"bytes_out":$bytes_sent,"duration_s":$session_time,"at":"$time_iso8601"}';
	access_log session.log session buffer=64k flush=1s;
	upstream dns {
%s
	}
	server {
		listen %s:%d udp reuseport;
		proxy_pass dns;
		proxy_timeout 120s;
		proxy_buffer_size 4k;
	}
}
`

func startNginx(l *lab) route {
	var servers []string
	for _, pod := range l.servers {
		servers = append(servers, fmt.Sprintf("\t\tserver %s;", pod.AddrPort4(dnsPort)))
	}
	dir := l.b.TempDir()
	output := filepath.Join(dir, "output")
	l.write(dir, "nginx.conf", fmt.Sprintf(nginxConfig, strings.Join(servers, "\n"), l.Bridge4, nginxPort))
	l.redirect(nginxPort)
	c := l.launch(output, "nginx", "-p", dir, "-c", "nginx.conf", "-e", "error.log")
	return route{addr: service, proxy: c, output: output}
}
