package proxier

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-proxy/usher/proxier/source"
)

// apiLike is a source that tells of an API server.
type apiLike struct {
	source.Source
	watch atomic.Pointer[source.Watch]
}

func (a *apiLike) String() string          { return "the API server lab:6443" }
func (a *apiLike) Watches() []source.Watch { return []source.Watch{*a.watch.Load()} }

func (*apiLike) LastState() (source.LastState, bool) { return source.LastState{}, false }

func TestSummary(t *testing.T) {
	api := &apiLike{}
	heard := func(ago time.Duration, synced bool) {
		api.watch.Store(&source.Watch{Resource: "services", LastContact: time.Now().Add(-ago), Synced: synced})
	}
	heard(0, false)
	s := newScene(t, func(c *Config) {
		api.Source, c.Source = c.Source, api
		c.Source.(*apiLike).Source.(*scene).incomplete = true
	})
	is := func(want string) {
		t.Helper()
		s.eventually(want, func() error {
			if got := s.proxier.Summary(); got != want {
				return fmt.Errorf("it is %q", got)
			}
			return nil
		})
	}
	is("not serving yet: waiting for services from the API server lab:6443")
	heard(0, true)
	is("not serving yet: waiting for the first pass to succeed")

	s.memory.mu.Lock()
	s.incomplete = false
	s.memory.mu.Unlock()
	client := s.connectToEcho()
	is("1 Service, 1 endpoint, 1 connection")
	client.Close()
	heard(63*time.Minute, true)
	is("1 Service, 1 endpoint, 0 connections; API server silent for 1h3m: serving the last state")
	s.stop()
	is("ending: 0 connections left")
}
