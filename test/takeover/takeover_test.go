package takeover

import (
	"strings"
	"testing"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/usher"
)

// Whoever talks through usher sees nothing of a take-over.
func TestTakeOverUnderLoad(t *testing.T) {
	s := newScene(t)
	load.UnderLoad(s.Site, "take-over", &containers{scene: s})
}

// containers is the carrier from one process to another one, every other time from or to one in
// namespaces of its own.
type containers struct {
	*scene
	all []*usher.Process
}

func (c *containers) last() *usher.Process { return c.all[len(c.all)-1] }

func (c *containers) Start() { c.all = append(c.all, c.start("--take-over")) }

func (c *containers) Upgrade() {
	c.t.Helper()
	n, before := len(c.all), c.last()
	if n%2 == 1 {
		c.all = append(c.all, usher.LaunchUnder(c.t, c.NS, pod, c.args("--take-over")...))
	} else {
		c.all = append(c.all, c.takeOver())
	}
	hasTakenOver(c.t, c.last())
	c.serves(n)
	parked(c.t, before, c.last())
}

func (c *containers) Log() string {
	var all []string
	for _, u := range c.all {
		all = append(all, u.Log())
	}
	return strings.Join(all, "\n")
}

func (c *containers) Stop() {
	c.t.Helper()
	if code := stop(c.t, c.last()); code != 0 {
		c.t.Errorf("exit code %d", code)
	}
}

// Without --take-over of its own the old process ends: nobody starts it again.
func TestOldOneEnds(t *testing.T) {
	s := newScene(t)
	u := s.start()
	l := load.Begin(s.Site, load.Small)
	next := s.takeOver()
	u.WaitLog("handed over to process")
	if code := u.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	hasTakenOver(t, next)
	s.serves(1)
	l.Tell()
}

// If nobody is there it starts as usual, also beside a socket that a dead one has left.
func TestNobodyToTakeOverFrom(t *testing.T) {
	s := newScene(t)
	u := s.start("--take-over")
	u.WaitLog("nothing to take over")
	u.Kill()
	s.start("--take-over").WaitLog("nothing to take over")
}
