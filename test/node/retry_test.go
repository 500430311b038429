package node

import (
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

type record = usher.Record

// A thousand connections to a Service with one dead endpoint of three: none
// fails, and the records tell of the dead one as often as the kernel saw it
// dialled: once in three, unless it is left out for that.
func TestThousandConnectionsWithADeadEndpoint(t *testing.T) {
	t.Run("asked again and again", func(t *testing.T) {
		picks, n := withADeadEndpoint(t, "--passive-health=off")
		if picks < n/4 {
			t.Errorf("%d picks", picks)
		}
	})
	t.Run("left out", func(t *testing.T) {
		picks, n := withADeadEndpoint(t)
		if picks < 5 || picks > n/20 { // five failures, and what was under way then
			t.Errorf("%d picks", picks)
		}
	})
}

func withADeadEndpoint(t *testing.T, flags ...string) (picks, connections int) {
	s := newScene(t)
	dead := s.AddPod(netns.Bridged, "dead")
	dead.Run("iptables", "-A", "INPUT", "-p", "tcp", "--syn", "--dport", "8080", "-j", "REJECT", "--reject-with", "tcp-reset")
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4, dead.IPv4))
	u := s.start(flags...)
	served(t, s.client.NS, vip(10))

	const n, clients = 1000, 10
	var failed atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range n / clients {
				if _, err := s.client.Get(vip(10)); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d connections failed", failed.Load(), n)
	}

	retried := 0
	for _, r := range u.Records(n+2, func(record) bool { return true }) {
		if r.Attempts[0].Backend != dead.AddrPort4(8080).String() {
			continue
		}
		retried++
		if len(r.Attempts) != 2 || r.Attempts[0].Errno != "ECONNREFUSED" || r.Attempts[1].Result != "ok" {
			t.Errorf("attempts %+v", r.Attempts)
		}
	}
	picks = rejected(t, dead)
	t.Logf("%d connections, %d records begin with the dead endpoint, the kernel there saw %d", n, retried, picks)
	if retried != picks {
		t.Errorf("%d records, %d picks", retried, picks)
	}
	return picks, n
}

// usher's own connections carry the mark, and iptables leaves them alone.
func TestOwnConnectionsAreMarked(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4))
	s.start()
	served(t, s.client.NS, vip(10))
	list := s.Run("iptables", "-t", "nat", "-nvxL", "USHER-OUTPUT")
	if m := regexp.MustCompile(`(\d+) +\d+ RETURN .* mark match 0x20/0x20`).FindStringSubmatch(list); m == nil || m[1] == "0" {
		t.Errorf("no packet of usher's was exempted:\n%s", list)
	}
}

// rejected is how many packets the pod's REJECT rule has met.
func rejected(t *testing.T, pod *netns.Pod) int {
	t.Helper()
	list := pod.Run("iptables", "-nvxL", "INPUT")
	m := regexp.MustCompile(`(\d+) +\d+ REJECT`).FindStringSubmatch(list)
	if m == nil {
		t.Fatal(list)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// The daemon holds nothing of connections that have ended.
func TestDaemonAfter10000Connections(t *testing.T) {
	s := newScene(t)
	s.write("web.yaml", manifest("web", 10, 30080, s.pods[0].IPv4, s.pods[1].IPv4))
	s.start("--log-level=warning")
	served(t, s.client.NS, vip(10))
	var goroutines, files int
	netns.Eventually(t, "quiet", func() error {
		goroutines, files = holds(t, s.NS)
		if active := metric(t, s.NS, "usher_connections_active{"); active > 0 {
			return fmt.Errorf("%v connections", active)
		}
		return nil
	})

	var all sync.WaitGroup
	var failed atomic.Int64
	for range 10 {
		all.Go(func() {
			for range 1000 {
				if _, err := s.client.Get(vip(10)); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d connections failed", failed.Load())
	}
	if n := metric(t, s.NS, "usher_connections_total{"); n < 10000 {
		t.Errorf("%v connections were counted", n)
	}
	netns.EventuallyWithin(t, 2*time.Minute, "back to where it was", func() error {
		g, f := holds(t, s.NS)
		if g > goroutines+2 || f > files+2 { // those of this scrape
			return fmt.Errorf("goroutines %d -> %d, files %d -> %d", goroutines, g, files, f)
		}
		return nil
	})
}

// holds are the goroutines and open files of the daemon.
func holds(t *testing.T, ns *netns.NS) (goroutines, files int) {
	return int(metric(t, ns, "go_goroutines ")), int(metric(t, ns, "process_open_fds "))
}

// metric is the value of the first series that begins like this, 0 if none
// does.
func metric(t *testing.T, ns *netns.NS, series string) float64 {
	t.Helper()
	text, err := ns.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + `(?:[^\n]*\} )?(\S+)$`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(m[1], 64)
	return v
}
