package cli

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/usher-proxy/usher/proxier/admin"
)

// probing is a usher that explains x, and says of every client that it has come to an
// endpoint; with mute it has no such view.
func probing(t *testing.T, x admin.Explanation, clients *sync.Map, mute bool) (socket string) {
	t.Helper()
	views := map[string]admin.View{"/v1/explain": {
		Parameters: []string{"namespace", "service", "port", "protocol", "from", "vip"},
		Show:       func(url.Values) (any, error) { return x, nil },
	}}
	if !mute {
		views["/v1/connections"] = admin.View{Parameters: []string{"namespace", "service", "client"}, Show: func(url.Values) (any, error) {
			var list admin.Connections
			clients.Range(func(client, _ any) bool {
				list.Connections = append(list.Connections, admin.Connection{Client: client.(string), Endpoint: "10.0.0.1:80", Pod: "default/\x1bweb"})
				return true
			})
			return list, nil
		}}
	}
	return adminSocket(t, views, nil)
}

// answering accepts, and has handle do the rest until the test ends.
func answering(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

func candidate(address string, state admin.EndpointState) admin.Candidate {
	return admin.Candidate{EndpointStatus: admin.EndpointStatus{Address: address, Pod: "default/a", State: state, Why: "not ready"}}
}

func nobodyAt(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestProbe(t *testing.T) {
	var clients sync.Map
	wait := func(c net.Conn) {
		clients.Store(c.RemoteAddr().String(), true)
		c.Read(make([]byte, 1))
	}
	reset := func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }
	served, closed := answering(t, wait), nobodyAt(t)
	for _, c := range []struct {
		about string
		x     admin.Explanation
		mute  bool
		args  string
		want  string
		code  int
	}{
		{"twice", admin.Explanation{VIP: served}, false, "--count 2", `service   @ +connected +#  by 10.0.0.1:80 \(pod default/\?web\)
service   @ +connected +#  by 10.0.0.1:80 \(pod default/\?web\)
`, 0},
		{"nobody tells by whom", admin.Explanation{VIP: served}, true, "", "service   @ +connected +#  by an endpoint that usher cannot tell\n", 0},
		{"refused", admin.Explanation{VIP: closed}, false, "", "service   @ +refused +#  ECONNREFUSED\n", exitFailed},
		{"reset", admin.Explanation{VIP: answering(t, reset)}, true, "", "service   @ +reset +#  ECONNRESET\n", exitFailed},
		{"endpoints", admin.Explanation{VIP: served, Candidates: []admin.Candidate{candidate(served, admin.In), candidate(closed, admin.Out), candidate("web-0", admin.Out)}}, false, "--all-endpoints",
			`service   @ +connected +#  by .*
endpoint  \S+ +connected +#  pod default/a
endpoint  \S+ +refused +#  pod default/a; ECONNREFUSED; usher leaves it out: not ready
`, exitFailed},
	} {
		c.x.Protocol, c.x.Namespace, c.x.Service = "tcp", "default", "web"
		socket := probing(t, c.x, &clients, c.mute)
		out, said, err := executed(t, slices.Concat([]string{"probe", "web", "--timeout=20s", "--admin-socket=" + socket}, strings.Fields(c.args)))
		pattern := strings.NewReplacer("@", regexp.QuoteMeta(c.x.VIP), "#", `[0-9.]+`).Replace(c.want)
		if !regexp.MustCompile(`^PROBE .*\n`+pattern+`$`).MatchString(out) || codeOf(err) != c.code || said != "" {
			t.Errorf("%s: exit code %d, %v\n%s%s", c.about, codeOf(err), err, out, said)
		}
	}
}

// An endpoint, and usher, see a client that has had its answer; only one that keeps the
// connection open gets a reset.
func TestProbesEndInGoodOrder(t *testing.T) {
	ends := make(chan error, 1)
	closes := func(c net.Conn) { ends <- drainOf(c) }
	keeps := func(c net.Conn) {
		if err := drainOf(c); err != nil {
			ends <- fmt.Errorf("before the FIN: %w", err)
			return
		}
		ends <- resetOf(c)
	}
	for name, c := range map[string]struct {
		handle func(net.Conn)
		good   bool
	}{"closes": {closes, true}, "keeps": {keeps, false}} {
		socket := probing(t, admin.Explanation{Protocol: "tcp", VIP: answering(t, c.handle)}, nil, true)
		if out, said, err := executed(t, []string{"probe", "web", "--timeout=20s", "--admin-socket=" + socket}); err != nil {
			t.Errorf("%s: %v\n%s%s", name, err, out, said)
		}
		if err := <-ends; (err == nil) != c.good {
			t.Errorf("%s: the connection ended with %v", name, err)
		}
	}
}

// resetOf waits for a reset, and returns what the socket says of it; nil: none comes.
func resetOf(c net.Conn) (reset error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil
	}
	for deadline := time.Now().Add(10 * time.Second); reset == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		raw.Control(func(fd uintptr) {
			if errno, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
				reset = unix.Errno(errno)
			}
		})
	}
	return reset
}

// drainOf reads until FIN, or tells the error.
func drainOf(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

func TestProbeDatagrams(t *testing.T) {
	echo, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, from, err := echo.ReadFrom(make([]byte, 9))
			if err != nil {
				return
			}
			echo.WriteTo([]byte("hello"), from)
		}
	}()
	defer func() { echo.Close(); <-done }()
	gone, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for _, c := range []struct {
		to, timeout, want string
		code              int
	}{
		{echo.LocalAddr().String(), "20s", "answered", 0},
		{silent.LocalAddr().String(), "50ms", "no refusal", 0},
		{gone.LocalAddr().String(), "20s", "refused", exitFailed},
	} {
		socket := probing(t, admin.Explanation{Protocol: "udp", VIP: c.to}, nil, true)
		out, _, err := executed(t, []string{"probe", "web", "--timeout", c.timeout, "-p", "udp", "--admin-socket=" + socket})
		if !strings.Contains(out, fmt.Sprintf("%-26s %-10s", c.to, c.want)) || codeOf(err) != c.code {
			t.Errorf("want %s: exit code %d, %v\n%s", c.want, codeOf(err), err, out)
		}
	}
}

func TestProbeWrongly(t *testing.T) {
	socket := probing(t, admin.Explanation{}, nil, true)
	for _, args := range [][]string{{}, {"a", "b"}, {"web", "--count=0"}, {"web", "--count=101"}, {"web", "--timeout=0s"}, {"web", "--timeout=2m"}, {"web", "-p", "icmp"}, {"web:"}} {
		if _, _, err := executed(t, slices.Concat([]string{"probe", "--admin-socket=" + socket}, args)); codeOf(err) != exitUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
}
