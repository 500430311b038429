package cli

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// topAnswer is what usher has told at one time.
type topAnswer struct {
	view      int // that was asked for
	traffic   admin.TrafficNow
	status    admin.Status
	attention []admin.Attention
	talk      admin.Talk          // of views that show it
	ports     []admin.ServicePort // likewise
	err       error               // nobody has told anything
}

// topPoller asks for what the view needs. Only show may be called beside another call.
type topPoller struct {
	asker
	interval time.Duration
	view     atomic.Int64
	changed  chan struct{} // another view is shown

	// Endpoints are asked for less often: there is a lot to tell of them.
	ports   []admin.ServicePort
	portsAt time.Time
}

func newTopPoller(socket string, interval time.Duration, view int) *topPoller {
	p := &topPoller{asker: asker{socket: socket}, interval: interval, changed: make(chan struct{}, 1)}
	p.view.Store(int64(view))
	return p
}

// show says which view is looked at.
func (p *topPoller) show(view int) {
	if p.view.Swap(int64(view)) == int64(view) {
		return
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

const portsInterval = 5 * time.Second

// ask asks once.
func (p *topPoller) ask(ctx context.Context) (*topAnswer, error) {
	p.ctx = ctx
	view := int(p.view.Load())
	a := &topAnswer{view: view}
	if err := admin.Get(ctx, p.socket, "/v1/traffic", nil, &a.traffic); err != nil {
		return nil, err
	}
	if a.traffic.Time.IsZero() {
		a.traffic.Time = time.Now()
	}
	if _, err := p.get("/v1/status", nil, &a.status); err != nil {
		return nil, err
	}
	if _, err := p.get("/v1/attention", nil, &a.attention); err != nil {
		return nil, err
	}
	if view == servicesView {
		return a, nil
	}
	if _, err := p.get("/v1/map", nil, &a.talk); err != nil {
		return nil, err
	}
	if view == endpointsView && time.Since(p.portsAt) > portsInterval {
		p.ports, p.portsAt = nil, time.Now()
		if _, err := p.get("/v1/endpoints", nil, &p.ports); err != nil {
			return nil, err
		}
	}
	a.ports = p.ports
	return a, nil
}

// poll asks again and again until ctx ends. A usher that is not there is asked again.
func (p *topPoller) poll(ctx context.Context) (answers <-chan *topAnswer, end <-chan error) {
	c := make(chan *topAnswer)
	return c, guarded(func() error {
		tick := time.NewTicker(p.interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-p.changed:
			case <-tick.C:
			}
			a, err := p.ask(ctx)
			if err != nil {
				a = &topAnswer{err: err}
			}
			select {
			case <-ctx.Done():
				return nil
			case c <- a:
			}
		}
	})
}
