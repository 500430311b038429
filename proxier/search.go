package proxier

import (
	"context"
	"net/netip"
	"slices"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
)

// connect finds an endpoint that can be connected to, once the connection has passed its
// limits, and tells it the client's address if it is to know. It asks none that has failed
// the connection.
func (c *connection) connect() (found dial.Result, err error) {
	err = c.during(func(ctx context.Context) (err error) {
		if c.visit == (limit.Visit{}) {
			err = c.enter(ctx)
		}
		if err == nil {
			found, err = c.search(ctx, c.failed())
		}
		return err
	})
	if err == nil {
		err = c.announce(found)
	}
	return found, err
}

// search dials. Where the endpoints that are left have all the connections that they
// may, it waits for one of them as long as the Service allows, and goes on.
func (c *connection) search(ctx context.Context, tried []netip.AddrPort) (dial.Result, error) {
	call := dial.Call{
		Client: c.record.Client.Addr(), Start: c.record.Start, Retry: c.settings.Retry,
		Poller: c.client.Poller(), Picker: c.picker, From: c.sourceOf, Report: c.report,
		Budget: c.shared.retries, Exclude: tried,
	}
	c.traceSearch(&call)
	var kept place
	defer kept.giveBack() // a policy may panic
	for {
		call.Admit = c.admission(&kept)
		found, err := c.dialer.Dial(ctx, call)
		kept.giveBack()
		c.noteSearch(found)
		if err == nil || len(found.Full) == 0 {
			return found, err
		}
		call.Exclude = slices.Concat(call.Exclude, attempted(found))
		if limited := c.awaitEndpoint(ctx, found.Full, &kept); limited != nil {
			if len(call.Exclude) > 0 && ctx.Err() == nil {
				return found, err // what those that were tried have said matters more
			}
			return found, limited
		}
	}
}

// attempted are the endpoints that a search has tried.
func attempted(found dial.Result) (list []netip.AddrPort) {
	for _, a := range found.Attempts {
		if a.Result != observe.OutOfFiles && a.Result != observe.OutOfMemory && !slices.Contains(list, a.Backend) {
			list = append(list, a.Backend)
		}
	}
	return list
}

// place is one at an endpoint that is kept for a search.
type place struct {
	at    netip.AddrPort
	leave func() // nil: there is none, or it was taken
}

// take returns nil if the place is not there.
func (p *place) take(endpoint netip.AddrPort) (leave func()) {
	if p.at != endpoint {
		return nil
	}
	leave, p.leave = p.leave, nil
	return leave
}

func (p *place) giveBack() {
	if p.leave != nil {
		p.leave()
		p.leave = nil
	}
}

// admission counts a search in at endpoints. One that is left out for being ill is
// no way around the limits of those that are well.
func (c *connection) admission(kept *place) func(netip.AddrPort) (func(), bool) {
	full := false
	return func(e netip.AddrPort) (func(), bool) {
		c.resort = c.health.Out(string(c.set()), e) // a success may bring it back at once
		if leave := kept.take(e); leave != nil {
			return leave, true
		}
		if full && c.resort {
			return nil, false
		}
		leave, ok := c.shared.gate.Endpoint(e)
		full = full || !ok
		return leave, ok
	}
}

// awaitEndpoint waits until one of the endpoints that are full has room, and keeps
// that. It does not wait for those that are ill unless there are no others.
func (c *connection) awaitEndpoint(ctx context.Context, full []netip.AddrPort, kept *place) (err error) {
	well := slices.DeleteFunc(slices.Clone(full), func(e netip.AddrPort) bool { return c.health.Out(string(c.set()), e) })
	if len(well) > 0 {
		full = well
	}
	defer c.waits()()
	kept.at, kept.leave, err = c.visit.WaitEndpoint(ctx, full)
	return err
}

// report tells what an attempt says of its endpoint. Where an early end counts, that
// it was connected to does not say that it is well.
func (c *connection) report(endpoint netip.AddrPort, err error) {
	if err != nil || !c.replays() {
		c.health.Report(endpoint, err)
	}
}

// replays says whether what an endpoint ends without an answer goes to another one.
func (c *connection) replays() bool { return c.settings.Retry.On&dial.ResetEarly != 0 }

// noteSearch puts what became of a search into the record.
func (c *connection) noteSearch(found dial.Result) {
	r := c.record
	failed := found.Attempts
	if found.Conn != nil {
		failed = failed[:len(failed)-1]
	}
	c.addAttempts(failed...)
	if found.Affinity != balancer.AffinityNone && (r.Affinity == 0 || r.Affinity == observe.WordOf(balancer.AffinityHit)) {
		r.Affinity = observe.WordOf(found.Affinity)
	}
	if found.BudgetSpent {
		c.shared.metrics.RetryDenied()
	}
	if found.Conn == nil {
		noteSource(r, found.From)
	} else {
		c.noteFound(found)
	}
	c.traceFound(found)
}

// noteFound puts the endpoint that the client has into the record.
func (c *connection) noteFound(found dial.Result) {
	r := c.record
	noteSource(r, found.From)
	if len(r.Attempts) > 0 { // the last one asked for may be another one's
		c.sourceOf(found.Pick.Endpoint)
	}
	r.SetBackend(found.Pick.Endpoint)
	r.Pick = c.whyPicked()
	r.Connect = found.Connect
	r.LocalPort = found.Conn.LocalPort()
}

// whyPicked says why it is this endpoint.
func (c *connection) whyPicked() observe.Word {
	r := c.record
	if len(r.Attempts) > 0 && r.Affinity != affinityHit && c.resort {
		return lastResort // others come first
	}
	return whyPicked(c.current.Load().port.eligible(c.set()).Terminating, r)
}

// whyPicked tells what was stronger than the balancer. terminating: all that there were to
// choose from are on their way out.
func whyPicked(terminating bool, r *observe.Record) observe.Word {
	switch {
	case r.Affinity == affinityHit:
		return pickAffinityHit
	case r.Affinity == affinityBroken:
		return pickAffinityBroken
	case terminating:
		return pickTerminating
	}
	return r.Balancer
}

// The words of a pick, which each connection needs.
var (
	affinityHit        = observe.WordOf(balancer.AffinityHit)
	affinityBroken     = observe.WordOf(balancer.AffinityBroken)
	pickAffinityHit    = observe.WordOf(observe.PickAffinityHit)
	pickAffinityBroken = observe.WordOf(observe.PickAffinityBroken)
	pickTerminating    = observe.WordOf(observe.PickTerminating)
	lastResort         = observe.WordOf(observe.PickLastResort)
)

// noteUnrelayed puts into the record of a connection that nothing was relayed for in which
// phase that was, and what the kernel knows of its client. Who was turned away at the door
// is not asked about: that is to cost nothing.
func (c *connection) noteUnrelayed() {
	r := c.record
	switch usual := r.Reason.Phase(); {
	case usual == "drain", usual == "accept", usual == "pick":
		return
	case c.visit == (limit.Visit{}):
		r.During = atAccept
	case len(r.Attempts) > 0:
		r.During = atConnect
	default:
		r.During = atPick
	}
	if c.settings != nil && c.settings.Relay.TCPInfo.Wants(r.Reason) {
		r.Sockets = &observe.Sockets{Client: observe.NewTCPInfo(c.client.Info())}
	}
}

// The phases before there is anything to relay.
var (
	atAccept  = observe.WordOf("accept")
	atPick    = observe.WordOf("pick")
	atConnect = observe.WordOf("connect")
)

// noteBefore has the record tell of the endpoint that it told of before, again.
func (c *connection) noteBefore(before observe.Record) {
	r := c.record
	r.SetBackend(before.Backend())
	r.Connect, r.LocalPort, r.Source, r.SourceWhy = before.Connect, before.LocalPort, before.Source, before.SourceWhy
	r.Pick = before.Pick
}

func (c *connection) picker() balancer.Picker { return *c.current.Load().pickers.of(c.set()) }

// failed are the endpoints that have failed the connection.
func (c *connection) failed() (list []netip.AddrPort) {
	for _, a := range c.record.Attempts {
		switch a.Result {
		case observe.BackendRefused, observe.BackendUnreachable, observe.ConnectTimeout, observe.BackendResetEarly:
			list = append(list, a.Backend)
		}
	}
	return list
}
