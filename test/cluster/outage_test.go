package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
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

// usher cannot reach the API server; meanwhile that is restarted and forgets its history,
// one Service goes and one comes. usher has to list all anew, and what is as before does
// not notice.
func TestReturnAfterCompaction(t *testing.T) {
	c := newCluster(t)
	path, restores := c.restores()
	t.Setenv("PATH", path)
	g := newGate(c)
	web, dns := c.serve("web", c.Pods[:2]...), c.serveUDP("dns", c.Pods[:2]...)
	gone := c.serve("gone", c.Pods[2])
	u := c.startWith("--kubeconfig=" + g.kubeconfig)
	c.answers(c.Client.NS, gone, "pod-3")
	v := c.visit(web, dns)
	for _, changes := range []bool{false, true} {
		listening, written := c.listening(), restores()
		relists, _ := c.metric("usher_api_relists_total")
		g.close()
		u.WaitLog("what is known stays in use")
		fresh := ""
		if changes {
			c.api.Delete(service("gone"))
			fresh = c.serve("fresh", c.Pods[2])
		}
		c.api.StopServer()
		c.compact()
		c.api.StartServer()
		c.answers(c.Client.NS, gone, "pod-3")
		v.isServed()

		g.open()
		began := time.Now()
		c.awaitMetric("usher_api_relists_total", func(n float64) bool { return n >= relists+2 }) // Services and EndpointSlices
		if changes {
			c.answers(c.Client.NS, fresh, "pod-3")
			c.unanswered(c.Client.NS, gone)
		}
		c.staysFor(2*time.Second, "nothing else has changed", func() error {
			if n := restores() - written; !changes && n > 0 {
				return fmt.Errorf("rules were written %d times", n)
			}
			now, replaced := c.listening(), 0
			for port, inode := range listening {
				if now[port] != inode {
					replaced++
				}
			}
			if gone := map[bool]int{true: 1}[changes]; replaced > gone {
				return fmt.Errorf("%d listeners were replaced, of %v now %v", replaced, listening, now)
			}
			return nil
		})
		v.isServed()
		t.Logf("with changes %v: all is as the API server says within %s; rules were written %d times",
			changes, time.Since(began).Round(time.Second), restores()-written)
	}
	u.WaitLog("answers again, after")
	if ended := regexp.MustCompile(`"event":"udp.close".*"service":"dns"`).FindString(u.Log()); ended != "" {
		t.Errorf("the UDP session has ended: %s", ended)
	}
}

// The API server is there, and does not answer. That is noticed without a single answer, and
// told once.
func TestAPIServerHangs(t *testing.T) {
	c := newCluster(t)
	u := c.start()
	web := c.serve("web", c.Pods[0])
	c.answers(c.Client.NS, web, "pod-1")
	curls := c.ask(&place{from: c.Client.NS, url: web})
	c.api.FreezeServer()
	defer c.api.ThawServer()
	began := time.Now()
	netns.EventuallyWithin(t, 3*time.Minute, "usher notices", func() error {
		if !strings.Contains(u.Log(), "what is known stays in use") {
			return errors.New("it has not")
		}
		return nil
	})
	age, _ := c.metric("usher_api_watch_age_seconds")
	t.Logf("noticed after %s; the ages of the watches add up to %.0f s", time.Since(began).Round(time.Second), age)
	if age < 30 {
		t.Errorf("the ages of the watches add up to %.0f s", age)
	}
	curls.goOn()
	c.api.ThawServer()
	netns.EventuallyWithin(t, 3*time.Minute, "usher notices that too", func() error {
		if !strings.Contains(u.Log(), "again, after") {
			return errors.New("it has not")
		}
		return nil
	})
	c.api.Apply(slice(service("web"), "1", c.Pods[1]))
	c.answers(c.Client.NS, web, "pod-2")
	t.Logf("%d requests, none failed", curls.stop())
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
