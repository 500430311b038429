package node

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// When all endpoints are dead and still listed, the outage is not multiplied: there
// are as many attempts as connections, and as many more as the budget has.
func TestRetryBudgetInAnOutage(t *testing.T) {
	s := newScene(t)
	third := s.AddPod(netns.Bridged, "pod-3")
	third.ServeHTTP(third.Name, third.AddrPort4(8080))
	pods := append(s.pods, third)
	s.write("web.yaml", annotated(manifest("web", 10, 30080, pods[0].IPv4, pods[1].IPv4, pods[2].IPv4), "web",
		wishes{"retries": "2", "retry-budget": "20%,1/s", "passive-health": "off"}))
	u := s.start("--log-max-errors=0")
	served(t, s.client.NS, vip(10))
	quiet(t, s)
	for _, p := range pods {
		reject(p, 8080)
	}

	const n, clients = 500, 10
	start := time.Now()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range n / clients {
				if err := isCutOff(s.client.NS, "10.96.0.10:80"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// A second saves up to ten seconds' worth, and 20 of 100 connections may be tried again.
	budget := n/5 + int(10+time.Since(start).Seconds()) + 1
	attempts := 0
	for _, p := range pods {
		attempts += rejected(t, p)
	}
	t.Logf("%d connections, %d attempts", n, attempts)
	if attempts > n+budget || attempts < n+n/5 {
		t.Errorf("the kernel saw %d attempts for %d connections and a budget of %d", attempts, n, budget)
	}
	told, denied := 0, 0
	for _, r := range u.Records(n, func(r record) bool { return r.Reason == "backend_refused" || r.Reason == "retries_exhausted" }) {
		told += len(r.Attempts)
		if len(r.Attempts) < 3 {
			denied++
		}
	}
	if told != attempts {
		t.Errorf("the records tell of %d attempts, the kernel saw %d", told, attempts)
	}
	if got := int(s.metric("usher_retries_denied_total", `service="web"`)); got != denied || got < n/2 {
		t.Errorf("%d connections are counted that had no further attempt, the records tell of %d", got, denied)
	}
}

// isCutOff wants a connection to end without a byte.
func isCutOff(from *netns.NS, to string) error {
	conn, err := from.Dial("tcp", to)
	if err != nil {
		if isReset(err) {
			return nil
		}
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !isReset(err) && err != io.EOF {
		return err
	}
	return nil
}
