package node

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// run runs a command against the usher of the scene.
func (s *scene) run(args ...string) (out string, code int) {
	s.t.Helper()
	out, faults, code := usher.Run(s.t, s.NS, append(args, "--admin-socket="+s.adminSocket())...)
	return out + faults, code
}

// wantRun fails the test if a command does not end so, or does not say all of it.
func (s *scene) wantRun(code int, says []string, args ...string) string {
	s.t.Helper()
	out, got := s.run(args...)
	for _, what := range says {
		if !strings.Contains(out, what) {
			s.t.Errorf("usher %s does not say %q:\n%s", strings.Join(args, " "), what, out)
		}
	}
	if got != code {
		s.t.Errorf("usher %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

// What somebody on the node has usher do, by its own commands, on real rules and pods.
func TestDrainKillTraceAndProbe(t *testing.T) {
	s := newScene(t)
	pod1, pod2 := s.pods[0].AddrPort4(8080).String(), s.pods[1].AddrPort4(8080).String()
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4))
	u := s.start("--sync-period=10m", "--admin-socket="+s.adminSocket())
	served(t, s.client.NS, vip(10))

	trace := s.NS.Command(t.Context(), os.Getenv("USHER_TEST_BINARY"), "trace", "--from="+s.client.IPv4.String(), "--to-service=default/web", "--duration=1h", "--admin-socket="+s.adminSocket())
	lines, err := trace.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun, err := trace.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(begun).ReadString('\n'); err != nil || !strings.Contains(line, "tracing connections") {
		t.Fatalf("trace begins with %q, %v", line, err)
	}

	s.wantRun(0, []string{"10.96.0.10:80", "connected", "endpoint  " + pod1, "endpoint  " + pod2}, "probe", "web", "--count=2", "--all-endpoints")

	s.wantRun(0, []string{pod1 + " drained: default/web:http"}, "drain", "endpoint", pod1, "--wait")
	s.wantRun(0, []string{"drained on this node by uid 0 at ", "by the one endpoint that is usable"}, "explain", "web")
	for range 4 {
		if answer, err := s.client.NS.Get(vip(10)); err != nil || !strings.Contains(answer, s.pods[1].Name) {
			t.Errorf("%q answers, %v", answer, err)
		}
	}
	u.WaitLog("gets no new connections from this node")
	s.wantRun(0, nil, "drain", "endpoint", pod2)
	s.wantRun(1, []string{"no endpoint is usable in the cluster set", "The client is refused"}, "explain", "web")
	s.wantRun(1, []string{"refused"}, "probe", "web")
	s.wantRun(4, []string{"no EndpointSlice"}, "drain", "endpoint", "10.9.9.9")
	s.wantRun(0, []string{pod1 + " undrained", pod2 + " undrained"}, "undrain", "endpoint", "--all")
	served(t, s.client.NS, vip(10))

	var held net.Conn
	netns.Eventually(t, "a connection that stays", func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		held, err = s.client.NS.DialContext(ctx, "tcp", "10.96.0.10:80")
		return err
	})
	defer held.Close()
	netns.Eventually(t, "usher has it", func() error {
		if out, code := s.run("kill", "connection", "--client="+held.LocalAddr().(*net.TCPAddr).IP.String(), "--dry-run"); code != 0 || !strings.Contains(out, held.LocalAddr().String()) {
			return fmt.Errorf("exit code %d\n%s", code, out)
		}
		return nil
	})
	s.wantRun(3, []string{"give --yes"}, "kill", "connection", "--service=web")
	s.wantRun(0, []string{held.LocalAddr().String(), "killed"}, "kill", "connection", "--service=web", "--yes")
	s.wantRun(4, []string{"no such connection"}, "kill", "connection", "--service=web", "--yes")
	held.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := held.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("the client gets %v", err)
	}
	u.WaitLog("has ended 1 connections")

	var told strings.Builder
	for scan := bufio.NewScanner(lines); scan.Scan(); {
		told.WriteString(scan.Text() + "\n")
		if strings.Contains(scan.Text(), "closed") && strings.Contains(scan.Text(), "an administrator ended it") {
			break
		}
	}
	for _, want := range []string{" accepted ", " arrived ", " attempt ", " result ", "connected after", " connected ", " first_reply ", " closed "} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("the trace tells of no %q:\n%s", want, told.String())
		}
	}
	trace.Process.Signal(os.Interrupt)
	if err := trace.Wait(); err != nil {
		t.Errorf("trace ends with %v", err)
	}
	t.Logf("\n%s", told.String())
}
