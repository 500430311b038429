package takeover

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/handover"
	"github.com/usher-proxy/usher/test/netns"
)

// These have the test binary ask the usher at a socket for a hand-over, and stop at a step of it.
const (
	stopEnv   = "USHER_TEST_PEER"
	socketEnv = "USHER_TEST_SOCKET"
)

// steps are those of a take-over until the last word, by what has been done.
var steps = []string{"asked", "ready", "tried", "proved", "early", "went on", "received"}

// stopsItself checks everything as usher does, stops (SIGSTOP) when all is there, and says the
// last word once it is continued.
const stopsItself = "stops itself"

func playPeer() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		fail(err)
	}
	conn, err := admin.Begin(ctx, os.Getenv(socketEnv), "/v1/take-over", url.Values{"node": {"node"}, "network": {network}})
	if err != nil {
		fail(err)
	}
	if os.Getenv(stopEnv) == stopsItself {
		takeLate(conn)
	}
	for _, step := range steps {
		if err := play(conn, step); err != nil {
			fail(err)
		}
		if step == os.Getenv(stopEnv) {
			break
		}
	}
	fmt.Println("there")
	<-ctx.Done()
}

func play(conn *net.UnixConn, step string) error {
	switch step {
	case "ready", "proved", "went on":
		_, err := conn.Write([]byte("R"))
		return err
	case "tried", "early", "received":
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return err
		}
		_, err := handover.Receive(conn)
		return err
	}
	return nil
}

func takeLate(conn *net.UnixConn) {
	files := 0
	see := func(p handover.Parcel) error {
		files += len(p.Files)
		return nil
	}
	err := handover.Take(conn, see, see, func(p handover.Parcel) error {
		see(p)
		fmt.Println("there")
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	})
	if err != nil {
		fail(err)
	}
	fail(fmt.Errorf("%d files were taken", files))
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}

// peer is a process that plays.
type peer struct {
	*netns.Cmd
	told *bufio.Reader
}

// playTo returns when a peer has come to a step.
func (s *scene) playTo(step string) *peer {
	s.t.Helper()
	p := &peer{Cmd: s.Command(context.Background(), os.Args[0])}
	p.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GORACE") }), stopEnv+"="+step, socketEnv+"="+s.Socket)
	out, err := p.StdoutPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	p.told = bufio.NewReader(out)
	if line := p.line(s.t); line != "there\n" {
		s.t.Fatalf("%s: %s", step, line)
	}
	return p
}

func (p *peer) line(t *testing.T) string {
	t.Helper()
	line, err := p.told.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}
