package cluster

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
	"github.com/usher-proxy/usher/test/usher"
)

// The node starts while the API server is away: what was known is served, and marked as
// such. What the API server then tells takes its place, and nothing that is the same
// notices.
func TestStartFromTheLastState(t *testing.T) {
	c := newCluster(t)
	path, restores := c.restores()
	t.Setenv("PATH", path)
	web, dns := c.serve("web", c.Pods[:2]...), c.serveUDP("dns", c.Pods[:2]...)
	gone := c.serve("gone", c.Pods[2])
	file, socket := filepath.Join(t.TempDir(), "kept"), filepath.Join(t.TempDir(), "usher.sock")
	flags := []string{"--kubeconfig=" + c.api.Usher.Kubeconfig, "--last-state=" + file, "--admin-socket=" + socket}
	before := c.startWith(flags...)
	c.answers(c.Client.NS, web, "pod-1", "pod-2")
	c.awaitMetric("usher_last_state_age_seconds", func(age float64) bool { return age < 5 })
	if code := before.Stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	c.api.StopServer()
	began := time.Now()
	u := c.launch(flags...)
	c.awaitReadyz(http.StatusOK)
	t.Logf("ready %s after the start without an API server", time.Since(began).Round(10*time.Millisecond))
	u.WaitLog("serving the last state of")
	c.answers(c.Client.NS, web, "pod-1", "pod-2")
	c.answers(c.Routed.NS, gone, "pod-3")
	v := c.visit(web, dns)
	if n, known := c.metric("usher_last_state_served"); !known || n != 1 {
		t.Errorf("usher_last_state_served is %v, %v", n, known)
	}
	if out, _, code := usher.Run(t, c.NS, "status", "--admin-socket="+socket); code != 0 ||
		!strings.Contains(out, "serving, but stale: the last state, which was known") || !strings.Contains(out, file) || !strings.Contains(out, "LastStateServed") {
		t.Errorf("status: exit code %d\n%s", code, out)
	}

	listening, written := c.listening(), restores()
	c.api.StartServer()
	began = time.Now()
	c.awaitMetric("usher_last_state_served", func(n float64) bool { return n == 0 })
	t.Logf("the API server's state is served %s after it is ready", time.Since(began).Round(10*time.Millisecond))
	u.WaitLog("they replace the last state of")
	c.staysFor(2*time.Second, "nothing has changed", func() error {
		if n := restores() - written; n > 0 {
			return fmt.Errorf("rules were written %d times", n)
		}
		if now := c.listening(); fmt.Sprint(now) != fmt.Sprint(listening) {
			return fmt.Errorf("the listeners are %v, and were %v", now, listening)
		}
		return nil
	})
	v.isServed()
	t.Logf("of %d listeners none was replaced, and rules were written 0 times", len(listening))
	if out, _, code := usher.Run(t, c.NS, "status", "--admin-socket="+socket); code != 0 || !strings.Contains(out, "STATE           serving\n") {
		t.Errorf("status: exit code %d\n%s", code, out)
	}

	// Once more, as a crash, and with a Service that goes while usher is away.
	u.Kill()
	c.api.Delete(service("gone"))
	c.api.StopServer()
	c.launch(flags...)
	c.awaitReadyz(http.StatusOK)
	c.answers(c.Client.NS, gone, "pod-3")
	v = c.visit(web, dns)
	c.api.StartServer()
	c.unansweredSoon(c.Client.NS, gone)
	v.isServed()
}

// unansweredSoon is unanswered for a change that waits for a watch to be tried again.
func (c *cluster) unansweredSoon(from *netns.NS, url string) {
	c.t.Helper()
	netns.EventuallyWithin(c.t, slowly, url+" is not answered from "+from.Name, func() error {
		if _, err := curl(from, url, impatient...); err == nil {
			return fmt.Errorf("it is")
		}
		return nil
	})
}

// The API server tells a part and no more. Without a file usher waits, and does nothing by
// halves; with one it serves that, until all is told.
func TestStartFromASlowAPIServer(t *testing.T) {
	c := newCluster(t)
	g := newGate(c)
	web, dns := c.serve("web", c.Pods[0]), c.serveUDP("dns", c.Pods[0])
	file := filepath.Join(t.TempDir(), "kept")
	before := c.startWith("--kubeconfig="+g.kubeconfig, "--last-state="+file)
	c.answers(c.Client.NS, web, "pod-1")
	c.awaitMetric("usher_last_state_age_seconds", func(age float64) bool { return age < 5 })
	before.Stop()
	none := c.rules()

	for name, hold := range map[string]func(){
		"no EndpointSlices":    func() { g.held["endpointslices"] = true },
		"half of the Services": func() { g.halved["services"] = true },
	} {
		c.story(name, func(c *cluster) {
			g.set(hold)
			u := c.launch("--kubeconfig=" + g.kubeconfig)
			c.staysFor(5*time.Second, "nothing is served by halves", func() error {
				if now := c.rules(); now != none {
					return fmt.Errorf("there are the rules\n%s", now)
				}
				if code := c.readyz(); code == http.StatusOK {
					return fmt.Errorf("readyz answers %d", code)
				}
				return nil
			})
			began := time.Now()
			g.set(func() { clear(g.held); clear(g.halved) })
			c.awaitReadyz(http.StatusOK)
			c.t.Logf("ready %s after the rest was told", time.Since(began).Round(10*time.Millisecond))
			c.answers(c.Client.NS, web, "pod-1")
			u.Stop()

			g.set(hold)
			began = time.Now()
			u = c.launch("--kubeconfig="+g.kubeconfig, "--last-state="+file)
			c.awaitReadyz(http.StatusOK)
			c.t.Logf("ready %s after the start, from the last state", time.Since(began).Round(10*time.Millisecond))
			v := c.visit(web, dns)
			g.set(func() { clear(g.held); clear(g.halved) })
			c.awaitMetric("usher_last_state_served", func(n float64) bool { return n == 0 })
			v.isServed()
			v.leave()
			u.Stop()
		})
	}
}
