package tcp

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keepAliveDue is how long the kernel waits until it asks the peer of a connection over
// IPv4 for a sign of life. ok is false if it does not.
func keepAliveDue(t *testing.T, c *Conn) (due time.Duration, ok bool) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	local := fmt.Sprintf(":%04X", c.LocalAddr().Port())
	for _, line := range strings.Split(string(table), "\n") {
		f := strings.Fields(line) // sl local remote state queues timer:when ... (proc_net_tcp.rst)
		if len(f) < 6 || !strings.HasSuffix(f[1], local) {
			continue
		}
		var timer, when int
		if _, err := fmt.Sscanf(f[5], "%x:%x", &timer, &when); err != nil {
			t.Fatal(err)
		}
		return time.Duration(when) * time.Second / 100, timer == 2
	}
	t.Fatal("the kernel does not know the connection")
	return 0, false
}

func TestLivenessOfAConnection(t *testing.T) {
	addr, accept := server(t)
	c := connect(t, newPollers(t).For(nil), addr)
	accept()
	get := func(level, name int) int {
		value, err := unix.GetsockoptInt(c.FD(), level, name)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	if get(unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 || get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 1 {
		t.Error("a new connection waits with its segments, or asks for signs of life")
	}
	for _, l := range []Liveness{
		{KeepAlive{7 * time.Second, 5 * time.Second, 3}, 11 * time.Second},
		{KeepAlive: KeepAlive{2 * time.Hour, time.Second, 100}},
		{UserTimeout: time.Hour},
		{},
	} {
		if err := l.Set(c.FD()); err != nil {
			t.Fatal(err)
		}
		k := l.KeepAlive
		if on := get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 1; on != (k.Idle > 0) {
			t.Errorf("%+v: keep-alive is %v", l, on)
		} else if on && (get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE) != int(k.Idle.Seconds()) ||
			get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL) != int(k.Interval.Seconds()) || get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT) != k.Count) {
			t.Errorf("the socket does not have %+v", l)
		}
		if ms := get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); ms != int(l.UserTimeout.Milliseconds()) {
			t.Errorf("%+v: the socket has a user timeout of %d ms", l, ms)
		}
	}
}

// It may be set late: the peer is asked as soon as if it had been set at once.
func TestLivenessCountsFromTheLastSegment(t *testing.T) {
	addr, accept := server(t)
	c := connect(t, newPollers(t).For(nil), addr)
	accept()
	const idle, silent = 100 * time.Second, time.Second
	for {
		info, err := unix.GetsockoptTCPInfo(c.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if time.Duration(min(info.Last_data_recv, info.Last_ack_recv))*time.Millisecond >= silent {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if due, ok := keepAliveDue(t, c); ok {
		t.Fatalf("the peer is asked in %v already", due)
	}
	(Liveness{KeepAlive: KeepAlive{idle, time.Second, 1}}).Set(c.FD())
	if due, ok := keepAliveDue(t, c); !ok || due > idle-silent/2 {
		t.Errorf("the peer is asked in %v (%v), want %v", due, ok, idle-silent)
	}
}
