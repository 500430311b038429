package proxier

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/handover"
)

// Successor is the program that is to take the place of this process.
type Successor interface {
	// Try has the program prove itself, with a state of now but without files: it reads
	// the state and its configuration, and serves nothing. The error says what is wrong.
	Try(context.Context, handover.Parcel) error
	// Exec puts the program in the place of this process. It returns only if that fails.
	Exec(handover.Parcel) error
}

// errUpgrading is why a second request is refused.
var errUpgrading = errors.New("an upgrade is under way already")

// upgrades are those of one process. It is safe for concurrent use.
type upgrades struct {
	one    sync.Mutex // held by the one that is under way
	failed *prometheus.CounterVec
}

// The steps of an upgrade, as metrics and those who ask call them.
const (
	stepTrial = "trial"
	stepRest  = "handover"
)

func (p *Proxier) measureUpgrades() {
	p.upgrades.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "usher_upgrade_failures_total", Help: "Upgrades in place, and take-overs by another process, that did not take place, by the step that failed. Everything went on.",
	}, []string{"step"})
	for _, step := range []string{stepTrial, stepRest} {
		p.upgrades.failed.WithLabelValues(step)
	}
	p.cfg.Registry.MustRegister(p.upgrades.failed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "usher_upgrades", Help: "Upgrades in place and take-overs since usher was started: how often a process has taken the place of another.",
	}, func() float64 { return float64(p.times) }))
}

// Upgrade puts the successor in the place of this process, which goes on with everything
// that is being served. It does not return if that has happened. Otherwise nothing has
// changed, and the error says why. tell, if not nil, is told of each step. It is safe for
// concurrent use.
func (p *Proxier) Upgrade(ctx context.Context, tell func(step string)) (err error) {
	if p.cfg.Successor == nil {
		return errors.New("this usher cannot be upgraded in place")
	}
	if !p.upgrades.one.TryLock() {
		return errUpgrading
	}
	defer p.upgrades.one.Unlock()
	step := stepTrial
	defer func() { p.upgradeFailed(step, err) }()
	if tell != nil {
		tell(step)
	}
	if err := p.tryOut(ctx); err != nil {
		return err
	}
	step = stepRest
	if tell != nil {
		tell(step)
	}
	p.cfg.Log.Info("handover: the program has proved itself, it takes over")
	return p.handOver(ctx, "its successor", carrier{carry: p.cfg.Successor.Exec})
}

func (p *Proxier) upgradeFailed(step string, err error) {
	p.upgrades.failed.WithLabelValues(step).Inc()
	p.cfg.Log.WithField("step", step).WithError(err).Error("handover: nothing has changed, as the upgrade has failed")
}

// HandOver brings everything to rest and has carry take it to another process: when carry
// returns without an error that one has it, and Run returns with nothing taken away. With an
// error everything goes on here. It is safe for concurrent use.
func (p *Proxier) HandOver(ctx context.Context, carry func(handover.Parcel) error) error {
	if !p.upgrades.one.TryLock() {
		return errUpgrading
	}
	defer p.upgrades.one.Unlock()
	return p.handOver(ctx, "another process", carrier{carry: carry})
}

// handOver is HandOver to somebody, with upgrades locked.
func (p *Proxier) handOver(ctx context.Context, to string, by carrier) error {
	return p.inLoop(ctx, func(context.Context) error {
		p.records.Flush(lastRecords / 10)
		err := p.leave(by)
		if p.left = err == nil; p.left {
			p.heldBy = to
		}
		return err
	})
}

// tryOut has the successor prove itself.
func (p *Proxier) tryOut(ctx context.Context) error {
	parcel, err := p.trial(ctx)
	if err != nil {
		return err
	}
	return p.cfg.Successor.Try(ctx, parcel)
}

// trial is a state of now, without files.
func (p *Proxier) trial(ctx context.Context) (parcel handover.Parcel, err error) {
	err = p.inLoop(ctx, func(context.Context) (err error) {
		h := &handingOver{Proxier: p, trial: true}
		if err = h.begin(); err == nil {
			parcel, err = h.pack()
		}
		return err
	})
	return parcel, err
}

// upgradeTime bounds a request for an upgrade.
const upgradeTime = 30 * time.Second

// upgrade is the request for an upgrade at the admin socket. Its lines tell the steps; the
// last one is an error, or there is none: then the process that has sent them is no more.
func (p *Proxier) upgrade(ctx context.Context, _ url.Values, send func([]byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, upgradeTime)
	defer cancel()
	uid, _ := admin.Caller(ctx)
	p.cfg.Log.WithField("uid", uid).Info("handover: asked for at the admin socket")
	return conflict(p.Upgrade(ctx, func(step string) { send(fmt.Appendf(nil, "{\"step\":%q}\n", step)) }))
}
