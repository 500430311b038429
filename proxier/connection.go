package proxier

import (
	"context"
	"errors"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/limit"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/relay"
	"github.com/usher-proxy/usher/proxier/tcp"
)

// connection is one client's connection, from accept to its record. It begins in the
// poller that has accepted it, which is handed over if the connection has to wait. Then the
// relay owns both sockets, and the connection is told what becomes of them.
type connection struct {
	*listener
	client   *tcp.Conn
	record   *observe.Record
	poller   *tcp.Poller          // that the connection keeps busy, nil if it does not
	settings *annotation.Settings // as they were when it was admitted
	visit    limit.Visit
	use      use // of the endpoint that it has

	keepSource bool // the endpoint is promised the client's address
	hedged     bool // the attempt that led to the endpoint was
	noted      bool // the record has that attempt
	settled    bool // what is to be said of the endpoint's health was said
	resort     bool // the endpoint asked for last was left out as ill then

	traced *traced // nil: nobody traces it

	aborted  observe.Word // why it was aborted, empty if it was not
	there    bool         // it is connected to the record's endpoint
	admitted bool         // the record tells what the client has dialled
	waiting  bool         // for its turn, at a limit
	over     bool         // the metrics have what it has moved, or will at once
	mu       sync.Mutex   // of all around it, and for changes of the record's attempts
	phase    *phase       // in which it may have to wait, nil in others
	relay    *relay.Relay // once both sides were connected
}

// set are the endpoints to choose from.
func (c *connection) set() Set { return Set(c.record.Set.String()) }

// serve is the life of a connection until it is relayed, or refused. polls says that the
// poller was not handed over for that.
func (c *connection) serve(by *tcp.Poller) (polls bool) {
	c.poller = by
	found, err := c.begin()
	polls, c.poller = c.poller != nil, nil
	switch {
	case err == nil:
		c.run(found)
	case errors.Is(err, errDeparts):
		c.rests(nil) // and may be in other hands at once
	}
	return polls
}

// begin finds an endpoint for the client. Without one the client has been refused, or with
// errDeparts it is to rest.
func (c *connection) begin() (found dial.Result, err error) {
	defer c.refuseIfPanicking(&err)
	if reason, err := c.admit(); reason != observe.OK {
		c.refuse(reason, err)
		return found, errRefused
	}
	return c.seek()
}

// find is begin for a connection that was admitted.
func (c *connection) find() (found dial.Result, err error) {
	defer c.refuseIfPanicking(&err)
	return c.seek()
}

// errRefused is what there is no endpoint for.
var errRefused = errors.New("the client was refused")

func (c *connection) seek() (found dial.Result, err error) {
	if found, err = c.connect(); err == nil || errors.Is(err, errDeparts) {
		return found, err
	}
	c.refuse(c.reasonOf(err), err)
	return found, errRefused
}

func (c *connection) refuseIfPanicking(err *error) {
	if value := recover(); value != nil {
		c.Panicked(value)
		c.refuse(observe.InternalError, nil)
		*err = errRefused
	}
}

// admit finds out what the client has dialled, and whether it may.
func (c *connection) admit() (observe.Reason, error) {
	r, current := c.record, c.current.Load()
	port := current.port
	c.settings = port.Settings
	r.Family, r.Balancer = uint8(port.Family), observe.WordOf(c.settings.Balancer)
	r.Listener = c.client.LocalAddr()
	client := c.clients.Load().kind(r.Client.Addr())
	r.ClientKind = observe.WordOf(client)
	vip, err := c.capture.destination(c.client, r.Listener)
	if err != nil {
		return observe.DirectAccess, err
	}
	r.VIP = vip
	arrived, ok := current.arrive(r.Client.Addr(), client, vip)
	if !ok {
		return observe.DirectAccess, nil
	}
	r.VIPKind = observe.WordOf(arrived.frontend.Kind)
	if r.Set == 0 {
		r.Set = observe.WordOf(arrived.set)
	}
	c.keepSource = arrived.frontend.promisesSource()
	r.Candidates, r.Eligible = observe.Count(port.Known), observe.Count(len(port.eligible(c.set()).Endpoints))
	c.traceArrived()
	if !arrived.admitted {
		return observe.SourceDenied, nil
	}
	return observe.OK, nil
}

// enter passes the limits on connections, or waits for its turn.
func (c *connection) enter(ctx context.Context) (err error) {
	defer c.waits()()
	if waited := c.record.Waited; waited > 0 { // before it was handed over
		c.visit, err = c.shared.gate.EnterAgain(ctx, c.record.Client.Addr(), c.settings.Limits.Wait-waited)
	} else {
		c.visit, err = c.shared.gate.Enter(ctx, c.record.Client.Addr())
	}
	c.traceLimits(err)
	return err
}

// waits notes for how long the connection waits for its turn, if the Service lets it.
func (c *connection) waits() (noMore func()) {
	if c.settings.Limits.Wait <= 0 {
		return func() {}
	}
	start, counted := time.Now(), c.shared.metrics.Waits()
	c.setWaiting(true)
	return func() {
		c.setWaiting(false)
		c.record.Waited += time.Since(start)
		counted()
	}
}

// during runs a phase that abort can end, and the client by going away.
func (c *connection) during(run func(context.Context) error) error {
	p := &phase{connection: c}
	if err := c.setPhase(p); err != nil {
		return err
	}
	defer func() { c.setPhase(nil); p.end() }()
	err := run(p)
	if err == nil {
		return nil
	}
	if left := p.left(); left != nil {
		return &clientLeft{left}
	}
	if p.hasDeparted() {
		return errDeparts
	}
	return err
}

// announce tells an endpoint the client's address, where the Service asks for that.
func (c *connection) announce(found dial.Result) error {
	version := c.settings.ProxyProtocol
	if version == 0 {
		return nil
	}
	err := announce(found.Conn, version, c.record.Client, c.record.VIP)
	c.traceAnnounced(version, err)
	if err != nil {
		found.Conn.Close()
		c.take(found)
		c.noteAttempt(observe.OK, "")
		c.leave(err)
		return &lost{err}
	}
	return nil
}

// lost is an endpoint that was lost before anything of the client was sent to it.
type lost struct{ error }

func (l *lost) Unwrap() error { return l.error }

// run has the relay take over, with the endpoint that was found.
func (c *connection) run(found dial.Result) {
	c.take(found)
	r := relay.New(c.client, found.Conn, relay.Settings{Limits: &c.settings.Relay, Clock: c.clock, Hold: c.replays()}, c)
	c.connected(r)
	r.Start()
	c.started()
}

// Answered tells the policy how fast an endpoint was.
func (c *connection) Answered(took time.Duration) {
	defer func() {
		if value := recover(); value != nil {
			c.Panicked(value)
			c.relay.Abort(observe.InternalError)
		}
	}()
	c.traceReply(took)
	c.isWell()
	if c.use.answered != nil {
		c.use.answered(c.record.Connect + took)
	}
}

// isWell tells that an endpoint has not ended early, where that matters.
func (c *connection) isWell() {
	if c.replays() && !c.settled {
		c.settled = true
		c.health.Report(c.record.Backend().Addr, nil)
	}
}

// EndedEarly gives the client another endpoint, as the one that it has has ended the
// connection without an answer.
func (c *connection) EndedEarly(early *relay.EarlyEnd) { go c.replay(early) }

func (c *connection) replay(early *relay.EarlyEnd) {
	defer func() {
		if value := recover(); value != nil {
			c.Panicked(value)
			c.relay.Abort(observe.InternalError)
			c.relay.GiveUp()
		}
	}()
	c.traceReplayed(early)
	c.noteAttempt(observe.BackendResetEarly, observe.ErrnoName(early))
	c.health.Report(c.record.Backend().Addr, early)
	c.setRelay(c.relay, false) // an endpoint that has crashed may leave
	c.leave(early)             // others may wait for its place
	before := *c.record
	next, err := c.connect()
	if errors.Is(err, errDeparts) && c.restsEarly() {
		return
	}
	if err != nil {
		c.noteBefore(before)
		c.settled = true
		c.relay.GiveUp() // the client gets what it would have got without a replay
		return
	}
	c.take(next)
	c.connected(c.relay)
	c.relay.Replay(next.Conn)
	c.started()
}

// Ended puts what became of the relay into the record.
func (c *connection) Ended(res relay.Result) {
	defer c.end()
	defer func() {
		if value := recover(); value != nil {
			c.Panicked(value)
		}
	}()
	c.noteAttempt(observe.OK, "")
	r := c.record
	r.End()
	r.BytesIn, r.BytesOut = res.In, res.Out
	r.Reason, r.Errno, r.Sockets = res.Reason, observe.ErrnoName(res.Errno), res.Sockets
	r.FirstByte, r.FirstReply = c.sinceStart(res.Client.First), c.sinceStart(res.Backend.First)
	r.ClientClose, r.ClientCloseAt, r.SentClient = res.Client.Close, c.sinceStart(res.Client.At), res.Client.Sent
	r.BackendClose, r.BackendCloseAt, r.SentBackend = res.Backend.Close, c.sinceStart(res.Backend.At), res.Backend.Sent
	c.isWell()
	c.leave(nil)
}

func (c *connection) sinceStart(t time.Time) time.Duration {
	if t.IsZero() {
		return -1
	}
	return t.Sub(c.record.Start)
}

// limitReasons are the reasons of limits.
var limitReasons = map[limit.Kind]observe.Reason{
	limit.Connections: observe.LimitService, limit.PerClient: observe.LimitClient, limit.PerEndpoint: observe.LimitBackend,
	limit.ConnectionRate: observe.RateLimited, limit.Process: observe.LimitGlobal,
}

// reasonOf is why a connection ends that no endpoint was found for.
func (c *connection) reasonOf(err error) observe.Reason {
	var exceeded *limit.Exceeded
	var lost *lost
	var left *clientLeft
	switch aborted := c.abortReason(); {
	case aborted != "":
		return aborted
	case errors.As(err, &left):
		return left.reason()
	case errors.As(err, &exceeded):
		return limitReasons[exceeded.Limit]
	case errors.As(err, &lost):
		return observe.BackendReset
	}
	reason := dial.Outcome(c.record.Attempts, err)
	if reason == observe.NoEndpoints {
		return c.current.Load().port.lacks(c.set())
	}
	return reason
}

// refuse ends the connection with a reset: a FIN would look like an empty
// answer.
func (c *connection) refuse(reason observe.Reason, err error) {
	c.record.End()
	c.record.Reason, c.record.Errno = reason, observe.ErrnoName(err)
	c.noteUnrelayed()
	var lost *lost
	if errors.As(err, &lost) {
		c.record.BackendClose, c.record.BackendCloseAt = relay.CloseOf(lost), time.Since(c.record.Start)
	}
	var left *clientLeft
	if errors.As(err, &left) {
		c.record.ClientClose, c.record.ClientCloseAt = relay.CloseOf(left), time.Since(c.record.Start)
		c.client.Close()
	} else {
		c.client.Reset()
		c.record.SentClient = observe.CloseRST
	}
	c.end()
}

// end is called when both sockets are closed, and tells the record.
func (c *connection) end() {
	c.visit.Leave()
	c.setOver()
	c.observer.Closed(c.shared.metrics, c.record)
	c.traceClosed()
	c.active.Add(-1)
	c.goes() // last: who waits for it then finds nothing left
}

// goes is called when nothing is left of the connection.
func (c *connection) goes() {
	c.connections.remove(c)
	if d := c.departs(); d != nil {
		d.arrived(c, nil)
	}
}

// Panicked tells of a fault, which may be a policy's. Who has recovered calls it.
func (c *connection) Panicked(value any) {
	c.log.WithField("id", c.record.ID()).Errorf("a connection of %s failed inside usher, please report this: %v\n%s",
		c.key, value, debug.Stack())
}

// abort ends the connection from outside, at once and with resets.
func (c *connection) abort(reason observe.Reason) {
	c.mu.Lock()
	if c.aborted != 0 {
		c.mu.Unlock()
		return
	}
	c.aborted = observe.WordOf(reason)
	if c.phase != nil {
		c.phase.end()
	}
	relay := c.relay
	c.mu.Unlock()
	if relay != nil {
		relay.Abort(reason)
	}
}

func (c *connection) abortReason() observe.Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return observe.Reason(c.aborted.String())
}

// setPhase begins a phase, or ends it with nil. The error is why it must not begin.
func (c *connection) setPhase(p *phase) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase, c.admitted = p, true
	switch {
	case c.aborted != 0:
		return context.Canceled
	case c.departs() != nil:
		return errDeparts
	}
	return nil
}

// connected is setRelay. If the endpoint has left meanwhile, the reconcile loop has not
// seen this connection when it looked for those that are to end.
func (c *connection) connected(r *relay.Relay) {
	c.setRelay(r, true)
	port := c.current.Load().port
	if port.Settings.Drain.Asked() && (c.gone.Load() || !port.keeps(c.record.Backend().Addr)) {
		c.restless.Store(true)
		c.wake()
	}
}

// setRelay says whether the connection has the record's endpoint from now on. While it has,
// that stays the same.
func (c *connection) setRelay(r *relay.Relay, there bool) {
	c.mu.Lock()
	c.relay, c.there = r, there
	aborted := c.aborted
	c.mu.Unlock()
	if aborted != 0 {
		r.Abort(observe.Reason(aborted.String()))
	}
}

// endpoint is the address of the one that it is connected to, the zero AddrPort if there is
// none.
func (c *connection) endpoint() netip.AddrPort { return c.backend().Addr }

// backend is the endpoint that it is connected to, the zero Endpoint if there is none.
func (c *connection) backend() balancer.Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.there {
		return balancer.Endpoint{}
	}
	return c.record.Backend()
}
