package proxier

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

const (
	maxTraces  = 8
	traceQueue = 4096 // events that wait for a trace's reader
)

// tracer tells what connections come to, as it happens, to those who have subscribed.
// While nobody has, it costs a connection one atomic load. It is safe for concurrent use.
type tracer struct {
	active atomic.Pointer[[]*trace] // never changed, but replaced under mu; nil: none
	mu     sync.Mutex
}

// trace is what one subscriber wants to know.
type trace struct {
	observe.Filter
	events chan admin.TraceEvent
	lost   atomic.Int64 // events that there was no room for, since the last one told
	over   atomic.Bool  // though connections may know of it for as long as they last
}

// Subscribe begins a trace, until end. It tells of connections that are accepted from
// now on. The error is an *admin.Error if there are as many traces as may be.
func (t *tracer) Subscribe(f observe.Filter) (one *trace, end func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var now []*trace
	if list := t.active.Load(); list != nil {
		now = append(now, *list...)
	}
	if len(now) >= maxTraces {
		return nil, nil, &admin.Error{Status: http.StatusTooManyRequests, Message: fmt.Sprintf("there are %d traces already, and no more may be: wait for one to end", maxTraces)}
	}
	one = &trace{Filter: f, events: make(chan admin.TraceEvent, traceQueue)}
	now = append(now, one)
	t.active.Store(&now)
	return one, func() { t.end(one) }, nil
}

func (t *tracer) end(one *trace) {
	one.over.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	var left []*trace
	for _, other := range *t.active.Load() {
		if other != one {
			left = append(left, other)
		}
	}
	if len(left) == 0 {
		t.active.Store(nil)
	} else {
		t.active.Store(&left)
	}
}

// of are the traces of a connection, nil if there are none.
func (t *tracer) of(c *connection) *traced {
	list := t.active.Load()
	if list == nil {
		return nil
	}
	r := c.record
	var by []*trace
	for _, one := range *list {
		if one.WantsLive(r.ServicePort, r.Client.Addr()) {
			by = append(by, one)
		}
	}
	if by == nil {
		return nil
	}
	return &traced{by: by, start: r.Start, about: admin.TraceEvent{
		ID: r.ID(), Namespace: c.key.Namespace, Service: c.key.Name, PortName: c.key.Port, Client: r.Client.String(),
	}}
}

// tell never blocks.
func (t *trace) tell(e admin.TraceEvent) {
	if t.over.Load() {
		return // nobody reads any more
	}
	lost := t.lost.Swap(0)
	e.Lost = int(lost)
	select {
	case t.events <- e:
	default:
		t.lost.Add(lost + 1)
	}
}

// traced is a connection that somebody traces. It is never changed.
type traced struct {
	by    []*trace
	start time.Time
	about admin.TraceEvent
}

// tell tells what is happening now.
func (t *traced) tell(event, text string, more ...func(*admin.TraceEvent)) {
	t.tellAt(time.Since(t.start), event, text, more...)
}

// tellAt tells what has happened so long after the start.
func (t *traced) tellAt(at time.Duration, event, text string, more ...func(*admin.TraceEvent)) {
	e := t.about
	e.Time, e.Ms, e.Event, e.Text = t.start.Add(at).Round(0).UTC(), float64(at.Microseconds())/1000, event, text
	for _, f := range more {
		f(&e)
	}
	for _, one := range t.by {
		one.tell(e)
	}
}
