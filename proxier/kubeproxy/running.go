package kubeproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// healthz is where kube-proxy answers unless it is told otherwise
// (--healthz-bind-address), and so does usher, which says who it is.
const healthz = "127.0.0.1:10256"

// running tells by what kube-proxy is seen to run in this network namespace, "" if
// it is not. In some distributions it is a part of another process, and in a
// container without the node's processes it cannot be seen as one: it answers.
func running(ctx context.Context) string {
	if pid := process("/proc"); pid != "" {
		return "process " + pid
	}
	if answers(ctx, healthz) {
		return "it answers at " + healthz
	}
	return ""
}

// process finds a kube-proxy in the own network namespace: containers may have
// others, which are of no interest. Whose namespace cannot be read is not found.
func process(proc string) (pid string) {
	own, err := os.Readlink(proc + "/thread-self/ns/net")
	if err != nil {
		return ""
	}
	names, _ := filepath.Glob(proc + "/[0-9]*/comm")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(text)) != "kube-proxy" {
			continue
		}
		dir := filepath.Dir(name)
		if ns, err := os.Readlink(dir + "/ns/net"); err == nil && ns == own {
			return filepath.Base(dir)
		}
	}
	return ""
}

// answers asks on the calling thread, which http.Client would not.
func answers(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return false
	}
	fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", addr)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.Header.Get("Server") == "usher" {
		return false
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return strings.Contains(string(body), `"lastUpdated"`)
}
