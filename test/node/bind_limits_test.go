package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// given the strictest reverse path filter, then packets to Services and refusals pass it.
func TestBindPassesReversePathFilters(t *testing.T) {
	s := newRoutedScene(t)
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	s.write("nobody.yaml", dual("nobody", 11, 30081))
	s.startBind()
	for _, device := range []string{"all", "default", "usher0", "eth0", "cni0", s.routed.HostLink} {
		s.Sysctl("net/ipv4/conf/"+device+"/rp_filter", "1")
	}
	for _, from := range s.clients() {
		served(t, from, vip(10))
		ask(t, from, udpVIP(10)).awaits("pod-1")
		s.refusedAt(from, "10.96.0.11:80")
		ask(t, from, udpVIP(11)).awaitsRefusal()
	}
}

// given datagrams larger than a link takes, then all fragments of them arrive.
func TestBindTakesFragments(t *testing.T) {
	s := newRoutedScene(t)
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	s.startBind()
	for _, from := range s.clients() {
		for _, addr := range []string{"10.96.0.10:80", "[fd00:10:96::10]:80"} {
			ask(t, from, addr).awaits("pod-1")
			conn, err := from.Dial("udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			large := bytes.Repeat([]byte("x"), 4000)
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			conn.Write(large)
			got := make([]byte, 1<<16)
			if n, err := conn.Read(got); err != nil || !bytes.HasSuffix(got[:n], large) {
				t.Errorf("%s gets %d bytes, %v from %s", from.Name, n, err, addr)
			}
		}
	}
}

// given a server on the wildcard address, then fragments do not reach it at an address of
// a Service that has no UDP port, nor at one that is refused.
func TestBindHidesWildcardDaemonsFromFragments(t *testing.T) {
	s := newRoutedScene(t)
	daemon := answer(t, s.NS, "daemon", netip.MustParseAddrPort("[::]:5353"))
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.write("nobody.yaml", dual("nobody", 11, 30081))
	s.startBind()
	for _, from := range s.clients() {
		served(t, from, vip(10))
		for _, addr := range []string{"10.96.0.10:5353", "10.96.0.11:5353", "10.96.0.11:80", "[fd00:10:96::11]:5353"} {
			conn, err := from.Dial("udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(bytes.Repeat([]byte("x"), 4000)); err != nil {
				t.Errorf("%s cannot send to %s: %v", from.Name, addr, err)
			}
			ask(t, from, addr).awaitsRefusal() // after it
		}
	}
	if n := daemon.count(); n > 0 {
		t.Errorf("%d datagrams have reached it", n)
	}
	ask(t, s.Client, "192.0.2.1:5353").awaits("daemon")
}

// given no policy routing, then everything is served all the same, and the log says what
// that means.
func TestBindAnyIP(t *testing.T) {
	s := newRoutedScene(t)
	before := s.routing()
	s.ServeHTTP("daemon", netip.MustParseAddrPort("0.0.0.0:22"))
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	s.write("nobody.yaml", dual("nobody", 11, 30081))
	u := usher.Start(t, s.NS, "--manifests="+s.folder, "--capture=bind", "--any-ip")
	u.WaitLog("no policy routing: every server on this node")
	for _, from := range s.clients() {
		for i, addr := range dualAddrs(10, 30080) {
			served(t, from, "http://"+addr)
			ask(t, from, addr).awaits("pod-1")
			s.refusedAt(from, dualAddrs(11, 30081)[i])
			ask(t, from, dualAddrs(11, 30081)[i]).awaitsRefusal()
		}
	}
	served(t, s.client.NS, "http://10.96.0.10:22") // as it warns
	u.Stop()
	if after := s.routing(); after != before {
		t.Errorf("after the end there is\n%s\nbefore there was\n%s", after, before)
	}
}

// given no iptables, then auto serves ordinary Services from pods, off-node and the host.
func TestBindIsTheFallbackOfAuto(t *testing.T) {
	s := newRoutedScene(t)
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	u := usher.Start(t, s.NS, "--manifests="+s.folder, "--capture=auto")
	t.Setenv("PATH", path)
	u.WaitLog("capture=bind, because iptables cannot be used")
	for _, from := range s.clients() {
		for _, addr := range dualAddrs(10, 30080) {
			served(t, from, "http://"+addr)
		}
	}
}

// given an address of the node that vanishes and comes back, then the NodePort's sockets
// follow within a pass.
func TestBindFollowsNodeAddresses(t *testing.T) {
	s := newRoutedScene(t)
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	s.startBind()
	served(t, s.client.NS, vip(10))
	for range 2 {
		s.Run("ip", "address", "add", "198.51.100.7/32", "dev", "cni0")
		served(t, s.NS, "http://198.51.100.7:30080")
		s.Run("ip", "address", "del", "198.51.100.7/32", "dev", "cni0")
		netns.Eventually(t, "its socket is closed", func() error {
			if open := s.Run("ss", "-Htuln", "src", "198.51.100.7"); open != "" {
				return errors.New(open)
			}
			return nil
		})
	}
	// The one that the node's own packets to Services come from: the kernel drops the routes.
	src := func(want string) {
		t.Helper()
		netns.Eventually(t, "the routes have the source "+want, func() error {
			served(t, s.NS, vip(10))
			if state := s.routing(); !strings.Contains(state, "proto 118 scope host src "+want) {
				return errors.New(state)
			}
			return nil
		})
	}
	s.Run("ip", "address", "add", "10.1.1.1/32", "dev", "cni0")
	src("10.1.1.1")
	s.Run("ip", "address", "del", "10.1.1.1/32", "dev", "cni0")
	src("10.244.1.1")
}

// given a usher that was killed, when cleanup runs, then everything is as before.
func TestBindCleanup(t *testing.T) {
	s := newRoutedScene(t)
	before := s.routing()
	s.write("web.yaml", dual("web", 10, 30080, s.pods[0]))
	s.startBind().Kill()
	if s.routing() == before {
		t.Fatal("a crash left nothing: this test proves nothing")
	}
	for range 2 {
		if code := s.launch("cleanup").Wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if after := s.routing(); after != before {
			t.Errorf("after cleanup there is\n%s\nbefore there was\n%s", after, before)
		}
	}
}

// given no capability, then addresses of the node are served and the others told.
func TestBindWithoutCapabilities(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip(err)
	}
	s := newRoutedScene(t)
	local := s.ServeHTTP("local", netip.MustParseAddrPort("127.0.0.1:0"))
	s.write("far.yaml", strings.ReplaceAll(dual("far", 10, 30080, s.pods[0]), "port: 80,", "port: 8000,"))
	s.write("near.yaml", strings.NewReplacer("10.96.0.12", "127.96.0.12", "port: 80,", "port: 8000,", "port: 8080", fmt.Sprintf("port: %d", local.Addr.Port())).
		Replace(manifest("near", 12, 30082, local.Addr.Addr())))
	ctx, cancel := context.WithCancel(context.Background())
	cmd := s.Command(ctx, setpriv, "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs",
		os.Getenv("USHER_TEST_BINARY"), "run", "--manifests="+s.folder, "--capture=bind", "--admin-socket=")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); cmd.Wait() }()
	served(t, s.NS, "http://127.96.0.12:8000")
	served(t, s.client.NS, "http://192.0.2.1:30080")
	netns.Eventually(t, "it is ready", func() error {
		_, err := s.Get("http://127.0.0.1:10256/readyz")
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return err
	})
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if text := log.String(); !strings.Contains(text, "10.96.0.10:8000") || !strings.Contains(text, "needs CAP_NET_ADMIN") || strings.Contains(text, "CannotWriteRules") {
		t.Errorf("the log:\n%s", text)
	}
}
