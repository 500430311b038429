package proxier

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/dial"
	"github.com/usher-proxy/usher/proxier/observe"
)

// What a connection tells its traces. All of it does nothing without one.

func endpointAt(addr netip.AddrPort, pod string) func(*admin.TraceEvent) {
	return func(e *admin.TraceEvent) { e.Endpoint, e.Pod = addr.String(), pod }
}

func (c *connection) traceAccepted() {
	if c.traced = c.tracer.of(c); c.traced != nil {
		c.traced.tell("accepted", fmt.Sprintf("accepted on %s; the Service port has %s now", c.client.LocalAddr(), counted(int(c.record.ServiceActive), "connection")))
	}
}

func (c *connection) traceArrived() {
	if c.traced == nil {
		return
	}
	r := c.record
	c.traced.tell("arrived", fmt.Sprintf("it dialled %s (%s) from %s: the %s set has %s for it",
		r.VIP, r.VIPKind, clientNames[clientKind(r.ClientKind.String())], r.Set, counted(int(r.Eligible), "endpoint")))
}

func (c *connection) traceLimits(err error) {
	switch {
	case c.traced == nil:
	case err != nil:
		c.traced.tell("limits", fmt.Sprintf("it did not pass the limits: %v", err))
	case c.record.Waited == 0:
		c.traced.tell("limits", "it passed the limits")
	default:
		c.traced.tell("limits", fmt.Sprintf("it passed the limits, having waited %s for its turn", c.record.Waited.Round(time.Microsecond)))
	}
}

// traceSearch has a search tell of its attempts.
func (c *connection) traceSearch(call *dial.Call) {
	if c.traced == nil {
		return
	}
	from := call.From
	call.From = func(e balancer.Endpoint) netip.Addr {
		as, text := from(e), "connecting from an address of this node"
		if as.IsValid() {
			text = "connecting from the client's own address"
		}
		c.traced.tell("attempt", text, endpointAt(e.Addr, e.Pod))
		return as
	}
	call.Ended = c.traceResult
}

func (c *connection) traceResult(a observe.Attempt) {
	how := a.Result.Text()
	if a.Result == observe.OK {
		how = "connected"
	}
	if a.Hedged {
		how += " (it began while another attempt had no answer yet)"
	}
	c.traced.tellAt(a.Start+a.Duration, "result", fmt.Sprintf("%s after %.3f ms", how, float64(a.Duration.Microseconds())/1000),
		endpointAt(a.Backend, a.Pod), func(e *admin.TraceEvent) { e.Result, e.Errno = string(a.Result), a.Errno })
}

// traceFound tells of attempts that were too late, and of the endpoint that was found.
func (c *connection) traceFound(found dial.Result) {
	if c.traced == nil {
		return
	}
	for _, a := range found.Attempts {
		if a.Result == observe.Superseded || a.Result == observe.Abandoned {
			c.traceResult(a)
		}
	}
	if found.Conn == nil {
		return
	}
	r := c.record
	seen := fmt.Sprintf("it sees the %s", r.Source)
	if why := r.SourceWhy.String(); why != "" {
		seen += fmt.Sprintf(" (%s)", why)
	}
	if r.Affinity != 0 {
		seen += fmt.Sprintf(", session affinity: %s", r.Affinity)
	}
	e := found.Pick.Endpoint
	c.traced.tell("connected", fmt.Sprintf("it has an endpoint, from our port %d; %s", r.LocalPort, seen), endpointAt(e.Addr, e.Pod))
}

func (c *connection) traceAnnounced(version byte, err error) {
	switch {
	case c.traced == nil:
	case err != nil:
		c.traced.tell("announced", fmt.Sprintf("the endpoint did not take the PROXY protocol header: %v", err))
	default:
		c.traced.tell("announced", fmt.Sprintf("the endpoint was sent a PROXY protocol header of version %d", version))
	}
}

func (c *connection) traceReply(took time.Duration) {
	if c.traced != nil {
		c.traced.tell("first_reply", fmt.Sprintf("the endpoint sent its first byte, after %.3f ms", float64(took.Microseconds())/1000))
	}
}

func (c *connection) traceReplayed(early error) {
	if c.traced != nil {
		to := c.record.Backend()
		c.traced.tell("replayed", fmt.Sprintf("the endpoint ended without an answer (%v): another one gets what the client has sent", early), endpointAt(to.Addr, to.Pod))
	}
}

// traceClosed tells of the end, and of what the relay tells only then.
func (c *connection) traceClosed() {
	if c.traced == nil {
		return
	}
	r := c.record
	type past struct {
		at          time.Duration
		event, text string
	}
	var list []past
	note := func(at time.Duration, event, text string) {
		if at >= 0 {
			list = append(list, past{at, event, text})
		}
	}
	note(r.FirstByte, "first_byte", "the client sent its first byte")
	if r.ClientClose != observe.CloseNone {
		note(r.ClientCloseAt, "client_close", fmt.Sprintf("the client's side ended: %s", r.ClientClose))
	}
	if r.BackendClose != observe.CloseNone {
		note(r.BackendCloseAt, "backend_close", fmt.Sprintf("the endpoint's side ended: %s", r.BackendClose))
	}
	slices.SortStableFunc(list, func(a, b past) int { return cmp.Compare(a.at, b.at) })
	for _, p := range list {
		c.traced.tellAt(p.at, p.event, p.text)
	}
	if r.SentClient != observe.CloseNone {
		c.traced.tell("sent_client", fmt.Sprintf("the client was sent: %s", r.SentClient))
	}
	if r.SentBackend != observe.CloseNone {
		c.traced.tell("sent_backend", fmt.Sprintf("the endpoint was sent: %s", r.SentBackend))
	}
	c.traced.tell("closed", fmt.Sprintf("%s; %d bytes in, %d bytes out", r.Sentence(), r.BytesIn, r.BytesOut),
		func(e *admin.TraceEvent) { e.Result, e.Errno = string(r.Reason), r.Errno })
}
