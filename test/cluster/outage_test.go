package cluster

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// The API server dies and comes back. What usher knew stays in use, and then it
// learns what is new.
func TestAPIServerDiesAndComesBack(t *testing.T) {
	c := newCluster(t)
	u := c.start()
	web := c.serve("web", c.Pods[:2]...)
	c.answers(c.Client.NS, web, "pod-1", "pod-2")
	c.answers(c.Routed.NS, web, "pod-1", "pod-2")
	curls := c.ask(&place{from: c.Client.NS, url: web}, &place{from: c.Routed.NS, url: web})

	c.api.StopServer()
	u.WaitLog("what is known stays in use")
	curls.goOn()
	c.answers(c.Client.NS, web, "pod-1", "pod-2")
	if code := c.readyz(); code != http.StatusOK {
		t.Errorf("readyz answers %d without the API server: nothing is wrong with what is served", code)
	}

	c.api.StartServer()
	c.api.Apply(slice(service("web"), "1", c.Pods[2]))
	shop := c.serve("shop", c.Pods[0])
	c.answers(c.Client.NS, web, "pod-3")
	c.answers(c.Client.NS, shop, "pod-1")
	curls.goOn()
	curls.stop()
}

// usher crashes, and starts again while the API server is down too. It knows
// nothing then, so it neither serves nor touches the rules of its predecessor.
func TestStartWithoutAPIServer(t *testing.T) {
	c := newCluster(t)
	web := c.serve("web", c.Pods[0])
	before := c.start()
	c.answers(c.Client.NS, web, "pod-1")
	before.Kill()
	left := c.rules()

	c.api.StopServer()
	u := c.launch("--kubeconfig="+c.api.Usher.Kubeconfig, "--sync-period=1s")
	u.WaitLog("what is known stays in use") // it has tried
	c.awaitReadyz(http.StatusServiceUnavailable)
	c.staysFor(2*time.Second, "not ready, and the rules are those of before", func() error { // some passes long
		if now := c.rules(); now != left {
			return fmt.Errorf("without having seen any object usher has made the rules\n%s\nof\n%s", now, left)
		}
		if code := c.readyz(); code != http.StatusServiceUnavailable {
			return fmt.Errorf("readyz answers %d", code)
		}
		return nil
	})

	c.api.StartServer()
	c.awaitReadyz(http.StatusOK)
	c.answers(c.Client.NS, web, "pod-1")
}

// staysFor checks for some time that nothing happens.
func (c *cluster) staysFor(d time.Duration, what string, check func() error) {
	c.t.Helper()
	over, again := time.After(d), time.NewTicker(d/20)
	defer again.Stop()
	for {
		select {
		case <-over:
			return
		case <-again.C:
		}
		if err := check(); err != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
	}
}
