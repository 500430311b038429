package node

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// Annotations that mean nothing cost nothing else: the Service is served, what is good
// among them counts, and each has one line in the log, in the words of usher config
// lint.
func TestWrongAnnotations(t *testing.T) {
	wrong := wishes{
		"balancer":        "roundrobin",
		"retrys":          "2",
		"connect-timeout": "2",
		"health-check":    "http",
		"weights":         "zone=a:0",
		"on-limit":        "wait",
		"Hedge":           "50ms",
	}
	s := newScene(t)
	path := filepath.Join(s.folder, "web.yaml")
	all := wishes{"proxy-protocol": "off", "max-connections-per-client": "4"}
	for name, value := range wrong {
		all[name] = value
	}
	s.write("web.yaml", annotated(manifest("web", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4), "web", all))
	u := s.start()
	awaitAnswers(t, s.client.NS, vip(10), "pod-1", "pod-2")
	quiet(t, s)
	for range 4 {
		holdOpen(t, s.client.NS, "10.96.0.10:80")
	}
	netns.Eventually(t, "the good one counts", func() error {
		if name, err := s.client.Get(vip(10)); err == nil {
			return fmt.Errorf("a fifth connection is served by %s", name)
		}
		return nil
	})

	out, faults, code := usher.Run(t, s.NS, "config", "lint", path)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 1 || len(lines) != len(wrong) {
		t.Errorf("usher config lint: exit code %d, %d lines for %d annotations\n%s%s", code, len(lines), len(wrong), out, faults)
	}
	// All is looked at again, and that is no news.
	s.write("next.yaml", manifest("next", 11, 30081, s.pods[0].IPv4))
	served(t, s.client.NS, vip(11))
	said := messages(t, u)
	for _, line := range lines {
		where, what, _ := strings.Cut(line, ": Service web: ")
		if what == "" || !strings.HasPrefix(where, path+":") {
			t.Errorf("lint does not say where: %s", line)
		}
		n := 0
		for _, m := range said {
			if strings.HasSuffix(m, what) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d lines of the log say %q:\n%s", n, what, strings.Join(said, "\n"))
		}
	}
	for name, hint := range map[string]string{"retrys": "do you mean usher-proxy.io/retries?", "Hedge": "do you mean usher-proxy.io/hedge?", "balancer": "round-robin"} {
		if n := countLines(out, "usher-proxy.io/"+name, hint); n != 1 {
			t.Errorf("%d lines about %s say %q:\n%s", n, name, hint, out)
		}
	}

	// Mended, it is no problem any more.
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	awaitAnswers(t, s.routed.NS, vip(10), "pod-1")
	if out, _, code := usher.Run(t, s.NS, "config", "lint", s.folder); code != 0 {
		t.Errorf("usher config lint: exit code %d\n%s", code, out)
	}
}

// holdOpen is a client that has had an answer and stays.
func holdOpen(t *testing.T, from *netns.NS, to string) {
	t.Helper()
	conn, err := from.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(answersWithin))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// messages are what the log says of annotations.
func messages(t *testing.T, u *usher.Process) (list []string) {
	t.Helper()
	for line := range strings.SplitSeq(u.Log(), "\n") {
		var entry struct{ Problem, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("not JSON: %s", line)
		}
		if entry.Problem == "InvalidUsherAnnotation" {
			list = append(list, entry.Msg)
		}
	}
	return list
}
