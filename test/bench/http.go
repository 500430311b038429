package bench

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// httpAnswer is the body of the answers of the servers.
const httpAnswer = "ok\n"

// httpConfig is a server that says little, writes no log and keeps connections as long as the
// client likes.
const httpConfig = `
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log error.log error;
events {
	worker_connections 18000;
	multi_accept on;
}
http {
	access_log off;
	keepalive_timeout 1h;
	keepalive_requests 1000000000;
	server {
		listen %s backlog=4096;
		default_type text/plain;
		location / { return 200 "ok\n"; }
	}
}
`

func serveHTTP(l *lab, pod *netns.Pod) {
	dir := l.t.TempDir()
	l.write(dir, "nginx.conf", fmt.Sprintf(httpConfig, pod.AddrPort4(l.proto.port)))
	l.launch(pod.NS, filepath.Join(dir, "output"), "nginx", "-p", dir, "-c", "nginx.conf", "-e", "error.log")
}

// httpRequest asks a server, which keeps the connection.
const httpRequest = "GET / HTTP/1.1\r\nHost: servers\r\n\r\n"

// getHTTP is one request on a connection of its own.
func getHTTP(l *lab, addr netip.AddrPort) error {
	conn, err := l.client.Dial("tcp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerTimeout))
	return exchangeHTTP(conn)
}

// exchangeHTTP sends a request and reads the answer.
func exchangeHTTP(conn io.ReadWriter) error {
	if _, err := io.WriteString(conn, httpRequest); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	var answer strings.Builder
	for buf := make([]byte, 1024); !strings.HasSuffix(answer.String(), "\r\n\r\n"+httpAnswer); {
		n, err := conn.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			return fmt.Errorf("read the answer after %q: %w", answer.String(), err)
		}
		if answer.Len() > len(buf) {
			return fmt.Errorf("not the answer of a server: %q", answer.String())
		}
	}
	return nil
}
