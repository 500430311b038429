package node

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// UDP sessions take at most half of the files: connections go on, and new ones are
// served.
func TestUDPSessionsLeaveFilesForConnections(t *testing.T) {
	const limit = 600
	s := newScene(t)
	server := answer(t, s.pods[0].NS, "pod-1", s.pods[0].AddrPort4(8080))
	s.pods[0].ServeTCPEcho(s.pods[0].AddrPort4(7000))
	u := usher.Launch(t, s.NS, "run", "--log-format=json", "--manifests="+s.folder, "--capture=iptables")
	if err := unix.Prlimit(u.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
		t.Fatal(err)
	}
	s.write("web.yaml", udpManifest("web", 10, 30080, s.pods[0].IPv4)+"---"+
		strings.ReplaceAll(manifest("echo", 11, 30081, s.pods[0].IPv4), "port: 8080", "port: 7000"))
	ask(t, s.client.NS, udpVIP(10)).awaits("pod-1")
	netns.Eventually(t, "TCP is served", func() error { return connect(t, s.client.NS, vip(11)) })
	before := openConnections(t, s, 10)
	for _, c := range before {
		echoes(t, c, "before")
	}

	p := process{u.PID()}
	start, most := p.files(), p.most()
	var clients []*asker
	for range limit {
		c := ask(t, s.routed.NS, udpVIP(10))
		c.gets("pod-1")
		clients = append(clients, c)
	}
	sessions := int(s.metric("usher_udp_sessions_active"))
	t.Logf("of %d files %d were open before, at most %d with %d sessions; %d clients were served", limit, start, most(), sessions, server.clients())
	if sessions > limit/2 || sessions < 50 {
		t.Errorf("%d sessions, with %d files", sessions, limit)
	}
	if n := p.files(); n > limit*3/4 {
		t.Errorf("%d of %d files are open", n, limit)
	}
	for _, c := range append(before, openConnections(t, s, 10)...) {
		echoes(t, c, "after")
	}
	if _, err := s.Get("http://127.0.0.1:10256/livez"); err != nil {
		t.Errorf("health is not answered: %v", err)
	}
	// Who is known stays, and there are files for the rules.
	clients[len(clients)-1].gets("pod-1")
	s.write("web.yaml", udpManifest("web", 12, 30080, s.pods[0].IPv4))
	ask(t, s.client.NS, udpVIP(12)).awaits("pod-1")
	for _, errno := range []string{"res_fds", "too many open files"} {
		if strings.Contains(u.Log(), errno) {
			t.Errorf("the log tells of %s", errno)
		}
	}
}

func openConnections(t *testing.T, s *scene, n int) (list []net.Conn) {
	t.Helper()
	for range n {
		conn, err := s.client.Dial("tcp", "10.96.0.11:80")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		list = append(list, conn)
	}
	return list
}

func echoes(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(conn, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Errorf("%s: %q, %v", conn.LocalAddr(), got, err)
	}
}
