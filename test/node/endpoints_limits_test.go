package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// echoPort is where the pods of an echoScene serve.
const echoPort = 7000

// newEchoScene is a scene whose pods send back what they are sent.
func newEchoScene(t *testing.T) *scene {
	s := newSceneOfPods(t)
	for _, p := range s.pods {
		p.ServeTCPEcho(p.AddrPort4(echoPort))
	}
	return s
}

// echoService is a Service of the first pod, or of those given.
func (s *scene) echoService(name string, n int, pods ...*netns.Pod) string {
	if len(pods) == 0 {
		pods = s.pods[:1]
	}
	text := manifest(name, n, 30070+n)
	for _, p := range pods {
		text = strings.Replace(text, "endpoints: [", fmt.Sprintf("endpoints: [{addresses: [%s]}, ", p.IPv4), 1)
	}
	return portedTo(echoPort, text)
}

func awaitTalk(t *testing.T, from *netns.NS, url string) {
	t.Helper()
	netns.Eventually(t, url+" is served", func() error { return connect(t, from, url) })
}

// Each client address has connections of its own, and those of one wait for nobody
// else's.
func TestConnectionsPerClient(t *testing.T) {
	s := newEchoScene(t)
	limited := wishes{"max-connections-per-client": "2"}
	s.write("web.yaml", annotated(s.echoService("web", 10), "web", limited))
	limited["on-limit"] = "wait:10s"
	s.write("patient.yaml", annotated(s.echoService("patient", 11), "patient", limited))
	limited["on-limit"] = "wait:300ms"
	s.write("hasty.yaml", annotated(s.echoService("hasty", 12), "hasty", limited))
	u := s.start()
	for n := range 3 {
		awaitTalk(t, s.routed.NS, vip(10+n))
	}
	quiet(t, s)

	const web, patient, hasty = "10.96.0.10:80", "10.96.0.11:80", "10.96.0.12:80"
	mine := []*talk{beginTalk(t, s.client.NS, web), beginTalk(t, s.client.NS, web)}
	refusesTalk(t, s.client.NS, web)
	others := []*talk{beginTalk(t, s.routed.NS, web), beginTalk(t, s.routed.NS, web)}
	refusesTalk(t, s.routed.NS, web)
	for _, c := range append(mine, others...) {
		c.lasts()
	}
	refused := u.Records(2, func(r usher.Record) bool { return r.Reason == "limit_client" })
	if a, b := refused[0].ClientIP, refused[1].ClientIP; a != s.client.IPv4.String() || b != s.routed.IPv4.String() {
		t.Errorf("%s and %s were refused", a, b)
	}
	mine[0].Close()
	netns.Eventually(t, "there is room for another one", func() error {
		_, err := tryTalk(t, s.client.NS, web, answersWithin)
		return err
	})

	// In front of another Service the third waits for its turn.
	first := beginTalk(t, s.client.NS, patient)
	beginTalk(t, s.client.NS, patient)
	third := make(chan *talk)
	go func() {
		c, err := tryTalk(t, s.client.NS, patient, 10*time.Second)
		if err != nil {
			t.Errorf("the one that waits: %v", err)
		}
		third <- c
	}()
	netns.Eventually(t, "it waits", func() error {
		if n := s.metric("usher_connections_waiting", `service="patient"`); n != 1 {
			return fmt.Errorf("%v wait", n)
		}
		return nil
	})
	start := time.Now()
	beginTalk(t, s.routed.NS, patient).Close()
	waited := time.Since(start)
	first.Close()
	if c := <-third; c != nil {
		c.Close()
		if r := c.toldOf(u); r.Reason != "ok" || r.WaitedMS < float64(waited.Milliseconds()) || r.WaitedMS > 10000 {
			t.Errorf("it has waited %v ms, at least %s: %+v", r.WaitedMS, waited, r)
		}
	}

	// Or in vain.
	beginTalk(t, s.client.NS, hasty)
	beginTalk(t, s.client.NS, hasty)
	if took := refusesTalk(t, s.client.NS, hasty); took < 300*time.Millisecond {
		t.Errorf("it was refused after %s, want 300ms", took)
	}
	if r := u.Records(1, func(r usher.Record) bool { return r.Service == "hasty" && r.Reason == "limit_client" })[0]; r.WaitedMS < 300 {
		t.Errorf("the record says that it has waited %v ms", r.WaitedMS)
	}
}

// quiet waits until nobody is served any more.
func quiet(t *testing.T, s *scene) {
	t.Helper()
	netns.Eventually(t, "no connections", func() error {
		if n := s.metric("usher_connections_active"); n > 0 {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	})
}

// --max-connections is for all Services together.
func TestConnectionsOfTheProcess(t *testing.T) {
	s := newEchoScene(t)
	s.write("a.yaml", s.echoService("a", 10))
	s.write("b.yaml", annotated(s.echoService("b", 11), "b", wishes{"on-limit": "wait:10s"}))
	u := s.start("--max-connections=4")
	awaitTalk(t, s.client.NS, vip(10))
	awaitTalk(t, s.client.NS, vip(11))
	quiet(t, s)
	const a, b = "10.96.0.10:80", "10.96.0.11:80"
	talks := []*talk{beginTalk(t, s.client.NS, a), beginTalk(t, s.routed.NS, a), beginTalk(t, s.client.NS, b), beginTalk(t, s.routed.NS, b)}
	refusesTalk(t, s.client.NS, a)
	u.Records(1, func(r usher.Record) bool { return r.Service == "a" && r.Reason == "limit_global" })
	next := make(chan error)
	go func() {
		_, err := tryTalk(t, s.client.NS, b, 10*time.Second)
		next <- err
	}()
	netns.Eventually(t, "one waits", func() error {
		if s.metric("usher_connections_waiting", `service="b"`) != 1 {
			return errNotYet
		}
		return nil
	})
	talks[0].Close() // of the other Service
	if err := <-next; err != nil {
		t.Errorf("the one that waits: %v", err)
	}
	for _, c := range talks[1:] {
		c.lasts()
	}
}

// More clients come than usher may have files. Those that are served stay served, the
// others are reset, and usher has files left for all else: it serves a new Service,
// answers about itself, and has not once run out.
func TestFilesForAllElse(t *testing.T) {
	const limit, crowd = 400, 500
	limitFiles(t, limit)
	s := newEchoScene(t)
	s.write("web.yaml", s.echoService("web", 10, s.pods...))
	u := s.startSeen()
	awaitTalk(t, s.client.NS, vip(10))
	quiet(t, s)
	most := process{u.PID()}.most()

	var served []*talk
	var mu sync.Mutex
	var refused, lost atomic.Int64
	var arrivals sync.WaitGroup
	for range 20 {
		arrivals.Go(func() {
			for range crowd / 20 {
				c, err := tryTalk(t, s.client.NS, "10.96.0.10:80", 10*time.Second)
				switch {
				case err == nil:
					mu.Lock()
					served = append(served, c)
					mu.Unlock()
				case isReset(err):
					refused.Add(1)
				default:
					lost.Add(1)
				}
			}
		})
	}
	arrivals.Wait()
	t.Logf("of %d clients %d are served, %d were reset", crowd, len(served), refused.Load())
	if len(served) < 16 || len(served) > limit/6 || lost.Load() > 0 {
		t.Errorf("%d are served, %d were neither", len(served), lost.Load())
	}
	if n := s.metric("usher_connection_closes_total", `reason="limit_global"`); n != float64(refused.Load()) {
		t.Errorf("%v are counted as refused, %d were reset", n, refused.Load())
	}

	// While others keep knocking.
	stop := knock(t, s.routed.NS, "10.96.0.10:80")
	s.write("next.yaml", s.echoService("next", 11))
	netns.Eventually(t, "there are rules for the new Service", func() error {
		if rules := s.Run("iptables-save", "-t", "nat"); !strings.Contains(rules, "-d 10.96.0.11/32") {
			return errNotYet
		}
		return nil
	})
	s.is("web", s.pods[0], "in", "ready")
	if _, err := s.Get("http://127.0.0.1:10256/healthz"); err != nil {
		t.Errorf("health: %v", err)
	}
	for _, c := range served {
		c.lasts()
	}
	stop()
	for _, c := range served {
		c.Close()
	}
	awaitTalk(t, s.client.NS, vip(11))
	quiet(t, s)
	t.Logf("of %d files usher has had at most %d", limit, most())
	for _, errno := range []string{"res_fds", "too many open files", "cannot write the capture", "cannot accept"} {
		if strings.Contains(u.Log(), errno) {
			t.Errorf("the log tells of %s", errno)
		}
	}
}

// knock lets some clients connect again and again.
func knock(t *testing.T, from *netns.NS, to string) (stop func()) {
	ended := make(chan struct{})
	var knocking sync.WaitGroup
	for range 8 {
		knocking.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					tryTalk(t, from, to, answersWithin)
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(ended)
		knocking.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// limitFiles makes usher start with as many files as it may open, in this test.
func limitFiles(t *testing.T, n int) {
	t.Helper()
	const binary = "USHER_TEST_BINARY"
	wrapper := filepath.Join(t.TempDir(), "usher")
	script := fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n", n, os.Getenv(binary))
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(binary, wrapper)
}
