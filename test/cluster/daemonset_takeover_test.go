package cluster

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// An update of the DaemonSet: the container of the new Pod takes over from that of the old one, in
// PID and mount namespaces of its own and with the privileges that both have. A client's
// connection goes on, time and again.
func TestDaemonSetTakesOver(t *testing.T) {
	c := newCluster(t)
	k := c.deploy(c.ownVariant())
	old := k.start()
	web := c.serve("web", c.Pods[0])
	c.answers(c.Client.NS, web, "pod-1")
	ask := c.keepAsking(strings.TrimPrefix(web, "http://") + ":80")
	isolated := slices.Concat([]string{"unshare", "--pid", "--mount", "--fork", "--kill-child=SIGKILL", "--mount-proc"}, k.line)
	for _, line := range [][]string{isolated, k.line, isolated} {
		ask()
		k.line = line
		young := k.start()
		young.WaitLog("went on with 1 connections")
		old.WaitLog("waiting for SIGTERM")
		ask()
		old.Kill()
		ask()
		c.answers(c.Client.NS, web, "pod-1")
		old = young
	}
	for line := range strings.Lines(old.Log()) {
		if strings.Contains(line, `"level":"warning"`) || strings.Contains(line, `"level":"error"`) {
			t.Errorf("usher warns: %s", line)
		}
	}
}

// keepAsking returns what asks a web server by one and the same connection.
func (c *cluster) keepAsking(addr string) (ask func()) {
	c.t.Helper()
	conn, err := c.Client.DialWith(context.Background(), &net.Dialer{Timeout: time.Second}, "tcp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	answers := bufio.NewReader(conn)
	return func() {
		c.t.Helper()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			c.t.Fatalf("the connection has ended: %v", err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
}
