package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/usher-proxy/usher/test/netns"
)

const port = 32000 // of health checks

// check is a Service with a health check, and its local endpoints by family.
func check(name string, port uint16, local map[corev1.IPFamily]int) Service {
	return Service{Namespace: "default", Name: name, Port: port, Local: local}
}

// here is a Service with a number of local endpoints in both families.
func here(name string, port uint16, n int) Service {
	return check(name, port, map[corev1.IPFamily]int{v4: n, v6: n})
}

// newServices returns Services of a proxy whose health can be set.
func newServices(t *testing.T) (*Services, *atomic.Bool) {
	t.Helper()
	healthy := &atomic.Bool{}
	healthy.Store(true)
	s := NewServices(healthy.Load)
	t.Cleanup(s.Close)
	return s, healthy
}

// serve is Sync of what must work, everywhere.
func serve(t *testing.T, s *Services, want ...Service) {
	t.Helper()
	for _, err := range s.Sync(want, everywhere()) {
		t.Error(err)
	}
}

func dial(addr string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err == nil {
		conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	return conn, err
}

// request asks on a connection of its own.
func request(t *testing.T, method, url string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// answers checks what a health check says: the code, and of whom how many.
func answers(t *testing.T, addr string, code int, name string, local int, healthy bool) {
	t.Helper()
	resp, body := request(t, "GET", "http://"+addr+"/healthz")
	want := fmt.Sprintf("{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %t\n}",
		name, local, healthy)
	if resp.StatusCode != code || body != want {
		t.Errorf("%s answers %d %s\nwant %d %s", addr, resp.StatusCode, body, code, want)
	}
	for header, value := range map[string]string{
		"Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
		"X-Load-Balancing-Endpoint-Weight": fmt.Sprint(local),
	} {
		if got := resp.Header.Get(header); got != value {
			t.Errorf("%s: %s is %q, want %q", addr, header, got, value)
		}
	}
}

func refused(t *testing.T, addr string) {
	t.Helper()
	conn, err := dial(addr)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s: got %v, want a refusal", addr, err)
	}
}

func TestHealthCheckFollowsTheLocalEndpoints(t *testing.T) {
	s, healthy := newServices(t)
	refused(t, "127.0.0.1:32000")
	serve(t, s, check("web", port, map[corev1.IPFamily]int{v4: 2, v6: 0}))
	answers(t, "127.0.0.1:32000", 200, "web", 2, true)
	answers(t, "[::1]:32000", 503, "web", 0, true) // each family has its own count

	healthy.Store(false)
	answers(t, "127.0.0.1:32000", 503, "web", 2, false)
	healthy.Store(true)
	serve(t, s, check("web", port, map[corev1.IPFamily]int{v4: 0, v6: 1}))
	answers(t, "127.0.0.1:32000", 503, "web", 0, true)
	answers(t, "[::1]:32000", 200, "web", 1, true)

	serve(t, s)
	refused(t, "127.0.0.1:32000")
	refused(t, "[::1]:32000")
	serve(t, s, here("web", port, 1)) // and back
	answers(t, "127.0.0.1:32000", 200, "web", 1, true)
	s.Close()
	refused(t, "127.0.0.1:32000")
}

func TestAnyPathAndMethod(t *testing.T) {
	s, _ := newServices(t)
	serve(t, s, here("web", port, 1), here("none", port+1, 0))
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"} {
		for _, path := range []string{"/", "/healthz", "/a/../b//c?d=e", "/.."} {
			for port, code := range map[int]int{port: 200, port + 1: 503} {
				if resp, _ := request(t, method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path)); resp.StatusCode != code {
					t.Errorf("%s %s answers %d, want %d", method, path, resp.StatusCode, code)
				}
			}
		}
	}
	if got := raw(t, "127.0.0.1:32001", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"); got != 503 {
		t.Errorf("OPTIONS * of a Service without local endpoints answers %d", got)
	}
}

// raw sends a request as it is and returns the code of the answer.
func raw(t *testing.T, addr, request string) int {
	t.Helper()
	conn, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, request)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestFamiliesOfAService(t *testing.T) {
	s, _ := newServices(t)
	serve(t, s, check("four", port, map[corev1.IPFamily]int{v4: 1}), check("six", port+1, map[corev1.IPFamily]int{v6: 1}))
	answers(t, "127.0.0.1:32000", 200, "four", 1, true)
	refused(t, "[::1]:32000")
	answers(t, "[::1]:32001", 200, "six", 1, true)
	refused(t, "127.0.0.1:32001")

	serve(t, s, check("four", port, map[corev1.IPFamily]int{v4: 1, v6: 3}))
	answers(t, "[::1]:32000", 200, "four", 3, true)
	refused(t, "[::1]:32001")
}

// keptAlive asks again on a connection that is open already.
func keptAlive(conn net.Conn) (string, error) {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestListenersAreNotRestarted(t *testing.T) {
	s, _ := newServices(t)
	serve(t, s, here("a", port, 1), here("b", port+1, 2))
	before := maps.Clone(s.servers)
	conn, err := dial("127.0.0.1:32000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	serve(t, s, here("a", port, 1), here("b", port+1, 5))
	serve(t, s, here("a", port+1, 1), here("b", port, 5)) // they change places
	answers(t, "127.0.0.1:32000", 200, "b", 5, true)
	answers(t, "127.0.0.1:32001", 200, "a", 1, true)
	if !maps.Equal(before, s.servers) {
		t.Error("other servers listen now")
	}
	if body, err := keptAlive(conn); err != nil || !strings.Contains(body, `"localEndpoints": 5`) {
		t.Errorf("on the connection from before: %q, %v", body, err)
	}
	serve(t, s, here("a", port+1, 1))
	if body, err := keptAlive(conn); err == nil {
		t.Errorf("the connection from before outlives its Service: %q", body)
	}
}

func TestAddressesOfTheNode(t *testing.T) {
	s, _ := newServices(t)
	on := func(list ...string) {
		t.Helper()
		var addrs []netip.Addr
		for _, a := range list {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		for _, err := range s.Sync([]Service{here("web", port, 1)}, addrs) {
			t.Error(err)
		}
	}
	on("127.0.0.1", "::1", "127.0.0.1")
	answers(t, "127.0.0.1:32000", 200, "web", 1, true)
	answers(t, "[::1]:32000", 200, "web", 1, true)
	refused(t, "127.0.0.2:32000")

	on("127.0.0.1", "127.0.0.2")
	answers(t, "127.0.0.2:32000", 200, "web", 1, true)
	refused(t, "[::1]:32000")

	on("127.0.0.1", "0.0.0.0") // nobody can listen on both: what goes makes room for what comes
	answers(t, "127.0.0.3:32000", 200, "web", 1, true)
	on("127.0.0.3", "::ffff:127.0.0.1")
	answers(t, "127.0.0.3:32000", 200, "web", 1, true)
	answers(t, "127.0.0.1:32000", 200, "web", 1, true)
	refused(t, "127.0.0.2:32000")
	on()
	refused(t, "127.0.0.3:32000")
}

func TestAnAddressInUseHarmsNoOther(t *testing.T) {
	other, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", "127.0.0.1:32000")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s, _ := newServices(t)
	both := []Service{here("a", port, 1), here("b", port+1, 1)}
	for range 2 { // each Sync tells it
		failed := s.Sync(both, everywhere())
		if len(failed) != 1 || failed[0].Name != "a" || failed[0].Namespace != "default" ||
			failed[0].Addr != netip.MustParseAddrPort("0.0.0.0:32000") || !errors.Is(failed[0], syscall.EADDRINUSE) {
			t.Fatalf("failed: %v", failed)
		}
	}
	const text = "cannot answer health checks of default/a on 0.0.0.0:32000, trying again: bind: address already in use"
	if got := s.Sync(both, everywhere())[0].Error(); got != text {
		t.Errorf("the error says %q, want %q", got, text)
	}
	answers(t, "[::1]:32000", 200, "a", 1, true)
	answers(t, "127.0.0.1:32001", 200, "b", 1, true)

	other.Close()
	serve(t, s, both...)
	answers(t, "127.0.0.1:32000", 200, "a", 1, true)
}

func TestTwoServicesOfOnePort(t *testing.T) {
	s, _ := newServices(t)
	failed := s.Sync([]Service{here("first", port, 1), here("second", port, 2)}, everywhere())
	if len(failed) != 2 || failed[0].Name != "second" || !strings.Contains(failed[1].Error(), "default/first") {
		t.Errorf("failed: %v", failed)
	}
	answers(t, "127.0.0.1:32000", 200, "first", 1, true)
	serve(t, s, here("second", port, 2))
	answers(t, "127.0.0.1:32000", 200, "second", 2, true)
}

func TestAListenerThatEndedIsOpenedAgain(t *testing.T) {
	s, _ := newServices(t)
	serve(t, s, here("web", port, 1))
	for _, server := range s.servers {
		server.listener.Close()
		netns.Eventually(t, "the server ends", func() error {
			if !server.ended.Load() {
				return errors.New("not yet")
			}
			return nil
		})
	}
	serve(t, s, here("web", port, 1))
	answers(t, "127.0.0.1:32000", 200, "web", 1, true)
}

func TestNobodyKnowsWhetherTheProxyIsHealthy(t *testing.T) {
	s := NewServices(nil)
	defer s.Close()
	serve(t, s, here("web", port, 1))
	answers(t, "127.0.0.1:32000", 503, "web", 1, false)
}

// A request that is still on its way when its Service goes must not be taken
// for a good answer.
func TestServiceThatWentMeanwhile(t *testing.T) {
	server := &serviceServer{healthy: func() bool { return true }}
	w := httptest.NewRecorder()
	server.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 503 {
		t.Errorf("answers %d", w.Code)
	}
}

func TestClientsAreBounded(t *testing.T) {
	s, _ := newServices(t)
	s.connections.limit = 3
	serve(t, s, here("a", port, 1), here("b", port+1, 1))
	var idle []net.Conn
	for i := range 3 { // of all Services together
		conn, err := dial(fmt.Sprintf("127.0.0.1:%d", port+i%2))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if body, err := keptAlive(conn); err != nil {
			t.Fatalf("%q, %v", body, err)
		}
		idle = append(idle, conn)
	}
	conn, err := dial("127.0.0.1:32000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if body, err := keptAlive(conn); err == nil {
		t.Errorf("one more than the limit is answered: %q", body)
	}
	idle[0].Close()
	netns.Eventually(t, "there is room again", func() error {
		conn, err := dial("127.0.0.1:32000")
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = keptAlive(conn)
		return err
	})
}

func TestServerHangsUpOnClientsThatSendTooMuch(t *testing.T) {
	s, _ := newServices(t)
	serve(t, s, here("web", port, 1))
	code := raw(t, "127.0.0.1:32000", "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", headerBytes+8<<10)+"\r\n\r\n")
	if code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answers %d", code)
	}
	server := Server(nil)
	if server.ReadTimeout == 0 || server.WriteTimeout == 0 || server.IdleTimeout == 0 {
		t.Errorf("a timeout is missing: %+v", server)
	}
}

// everywhere are the addresses that stand for all addresses of the node.
func everywhere() []netip.Addr {
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}
