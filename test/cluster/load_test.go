package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/usher-proxy/usher/test/netns"
)

// A load is one curl after the other from each of several places. None may
// fail.
type load struct {
	t       *testing.T
	cancel  func()
	running sync.WaitGroup
	places  []*place
	node    *netns.NS
}

// place is where somebody asks for one URL again and again.
type place struct {
	from     *netns.NS
	url      string
	answered atomic.Int64
}

// ask starts a load. It ends with the test at the latest.
func (c *cluster) ask(places ...*place) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: c.t, cancel: cancel, places: places, node: c.NS}
	for _, p := range places {
		l.running.Go(func() { l.loop(ctx, p) })
	}
	c.t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) loop(ctx context.Context, p *place) {
	for ctx.Err() == nil {
		_, err := curl(p.from, p.url)
		if l.t.Context().Err() != nil {
			return // the test has ended, and curl was killed
		}
		if err != nil {
			l.t.Errorf("the curl after %d good ones failed from %s: %v\n%s", p.answered.Load(), p.from.Name, err, l.underWay())
			return
		}
		p.answered.Add(1)
	}
}

// underWay is what the node's conntrack knows of connects that nobody has
// answered: a SYN that no rule has met is among them, with the address as dialled.
func (l *load) underWay() string {
	return l.node.Run("sh", "-c", "grep -e UNREPLIED -e SYN_ /proc/net/nf_conntrack | head -20; true")
}

// goOn waits until every place has been answered a few times more, which tells
// what is new and what was before apart.
func (l *load) goOn() {
	l.t.Helper()
	for _, p := range l.places {
		enough := p.answered.Load() + 5
		netns.Eventually(l.t, "curls go on from "+p.from.Name, func() error {
			if n := p.answered.Load(); n < enough {
				return fmt.Errorf("%d answers", n)
			}
			return nil
		})
	}
}

// stop lets the last curls end and returns how many were answered.
func (l *load) stop() (answered int) {
	l.cancel()
	l.running.Wait()
	for _, p := range l.places {
		answered += int(p.answered.Load())
	}
	return answered
}
