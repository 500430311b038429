package proxier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// watched is bind capture that looks at what is served whenever rules would be
// written or removed, and can be made to fail.
type watched struct {
	bind
	mu     sync.Mutex
	looks  []string // what the addresses of interest answered, at each step
	ask    []string // addresses of interest
	broken bool
	verify bool // was asked for
}

func (w *watched) apply(_ context.Context, _ []*listener, _ *nodeState, verify bool) map[Family]error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verify = w.verify || verify
	w.look("apply")
	if w.broken {
		return map[Family]error{IPv4: errors.New("broken by the test")}
	}
	return nil
}

func (w *watched) stop(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look("stop")
	return nil
}

func (w *watched) remove(context.Context) error { return nil }

func (w *watched) changed() bool { return false }

func (w *watched) look(step string) {
	for _, addr := range w.ask {
		state := "refuses"
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			state = "serves"
		}
		step += " " + state
	}
	w.looks = append(w.looks, step)
}

func (w *watched) set(broken bool, ask ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken, w.ask, w.looks = broken, ask, nil
}

func (w *watched) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.looks) == 0 {
		return ""
	}
	return w.looks[len(w.looks)-1]
}

func newWatchedScene(t *testing.T, change ...func(*Config)) (*scene, *watched) {
	w := &watched{}
	return newSceneWith(t, func(p *Proxier) {
		p.data.capture = w
	}, change...), w
}

// The listener is there before the rule, and the rule is gone before the
// listener; at the end too.
func TestRulesNeverLeadToNobody(t *testing.T) {
	other := testVIP(3)
	s, w := newWatchedScene(t)
	b := newBackend(t)
	w.set(false, vip)
	s.set(with(service("web", vip), b.addr)...)
	s.eventually("applied", func() error { return wants(w.last(), "apply serves") })

	w.set(false, vip, other)
	s.set(with(service("other", other), b.addr)...)
	s.eventually("applied", func() error { return wants(w.last(), "apply serves serves") })
	s.refused(vip)

	w.set(false, other)
	s.stop()
	if err := wants(w.last(), "stop serves"); err != nil {
		t.Error(err)
	}
	s.refused(other)
}

func wants(got, want string) error {
	if got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// While rules cannot be written nothing is taken away, and it is tried again
// without any change.
func TestFailedApplyIsTriedAgain(t *testing.T) {
	s, w := newWatchedScene(t, func(c *Config) { c.SyncPeriod = time.Hour })
	b := newBackend(t)
	s.set(with(service("web", vip), b.addr)...)
	s.served(vip)
	w.set(true)
	s.set()
	s.eventually("tried", func() error { return wants(w.last(), "apply") })
	w.set(true, vip)
	s.eventually("tried again, and still there", func() error { return wants(w.last(), "apply serves") })
	w.set(false, vip)
	s.refused(vip)
	s.stop()
	if open := len(s.proxier.unused); open != 0 {
		t.Errorf("%d sockets are left", open)
	}
}

// Nothing is programmed before all lists are in.
func TestIncompleteObjectsAreNotServed(t *testing.T) {
	s, w := newWatchedScene(t)
	b := newBackend(t)
	s.mu.Lock()
	s.incomplete = true
	s.mu.Unlock()
	w.set(false)
	s.set(with(service("web", vip), b.addr)...)
	s.refused(vip)
	select {
	case <-s.proxier.Ready():
		t.Error("ready with half of the objects")
	case <-time.After(100 * time.Millisecond):
	}
	if w.last() != "" {
		t.Error("rules were written from half of the objects")
	}
	s.mu.Lock()
	s.incomplete = false
	s.mu.Unlock()
	s.set(with(service("web", vip), b.addr)...)
	s.served(vip)
	<-s.proxier.Ready()
}

// What somebody else has changed in the kernel is mended in time however often
// objects change.
func TestRulesAreVerifiedUnderSteadyChanges(t *testing.T) {
	s, w := newWatchedScene(t, func(c *Config) { c.SyncPeriod = 200 * time.Millisecond })
	s.eventually("verified", func() error {
		s.set(service("web", vip)) // each time sooner than the timer fires
		time.Sleep(time.Millisecond)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.verify {
			return errors.New("not yet")
		}
		return nil
	})
}
