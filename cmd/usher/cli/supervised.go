package cli

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/systemd"
)

const (
	statusEvery = time.Second // at most, and only if it has changed

	// While usher does not serve yet, its start may go on for startExtension after each
	// heartbeat. One comes every startBeat, also without a watchdog.
	startExtension = time.Minute
	startBeat      = 10 * time.Second

	// shutdownTime is what the end takes at most beside the drain: to stop and to remove the
	// capture, and to write what is left of the log.
	shutdownTime = 75 * time.Second
)

// supervised tells systemd, if that has started usher, how it is.
type supervised struct {
	log          logrus.FieldLogger
	watchdog     bool
	readyTimeout time.Duration
	drainTimeout time.Duration
	store        *fdStore // nil: there is none

	ready  atomic.Bool // as far as systemd knows
	status string      // the last one
	silent sync.Once
}

// supervise has the loop of cfg beat for systemd. It returns nil if there is none.
func supervise(ctx context.Context, cfg *proxier.Config, readyTimeout time.Duration, stored []systemd.File) *supervised {
	if !systemd.Listens() {
		return nil
	}
	s := &supervised{log: cfg.Log, readyTimeout: readyTimeout, drainTimeout: cfg.DrainTimeout}
	s.store = openStore(ctx, stored, cfg)
	every := startBeat
	limit, err := systemd.Watchdog()
	if err != nil {
		s.log.WithError(err).Warn("cannot tell when systemd's watchdog is to be fed")
	}
	if limit > 0 {
		s.watchdog, every = true, min(every, limit/2)
	}
	cfg.Heartbeat, cfg.HeartbeatEvery = s.beat, every
	return s
}

// beat is called by the loop that does the work, and by it alone.
func (s *supervised) beat() {
	switch {
	case !s.ready.Load():
		s.notify(systemd.ExtendTimeout(startExtension))
	case s.watchdog:
		s.notify(systemd.Alive)
	}
}

// run runs p and tells how it is until it has ended.
func (s *supervised) run(ctx context.Context, p *proxier.Proxier) error {
	if s == nil {
		return p.Run(ctx)
	}
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() { s.tell(p, ended) })
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		if !s.store.restart(p) {
			s.store.clear()
			stop()
		}
	})()
	err := p.Run(running)
	close(ended)
	telling.Wait()
	return err
}

func (s *supervised) tell(p *proxier.Proxier, ended <-chan struct{}) {
	look := time.NewTicker(statusEvery)
	defer look.Stop()
	ready, stopping := p.Ready(), p.Stopping()
	var late <-chan time.Time
	if s.readyTimeout > 0 {
		late = time.After(s.readyTimeout)
	}
	for {
		var states []string
		select {
		case <-ended:
			return
		case <-ready:
			ready, late = nil, nil
			states = s.becomesReady()
		case <-late:
			late = nil
			s.log.Warnf("after --ready-timeout=%s systemd is told that usher is ready: %s", s.readyTimeout, p.Summary())
			states = s.becomesReady()
		case <-stopping:
			stopping = nil
			states = []string{systemd.Stopping, systemd.ExtendTimeout(s.drainTimeout + shutdownTime)}
		case <-look.C:
		}
		if status := p.Summary(); status != s.status {
			s.status = status
			states = append(states, systemd.Status(status))
		}
		if len(states) > 0 {
			s.notify(states...)
		}
	}
}

// becomesReady is what to tell at the first of two reasons to call usher ready.
func (s *supervised) becomesReady() []string {
	if s.ready.Swap(true) {
		return nil
	}
	return []string{systemd.Ready}
}

// notify complains once: whatever keeps one message from systemd keeps others, too.
func (s *supervised) notify(states ...string) {
	if err := systemd.Notify(states...); err != nil {
		s.silent.Do(func() { s.log.WithError(err).Warn("systemd does not learn how usher is") })
	}
}
