package proxier

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

const (
	traceTime    = 30 * time.Second // if nothing else is asked for
	maxTraceTime = time.Hour
)

var traceParameters = []string{"client", "namespace", "service", "duration"}

// traceOf reads the parameters client, namespace, service and duration.
func traceOf(q url.Values) (f observe.Filter, lasts time.Duration, err error) {
	if f, err = filterIn(q, time.Now()); err != nil {
		return f, 0, err
	}
	lasts = traceTime
	if text := q.Get("duration"); text != "" {
		if lasts, err = time.ParseDuration(text); err != nil || lasts <= 0 || lasts > maxTraceTime {
			return f, 0, badRequest("duration=%q: want more than 0 and at most %s", text, maxTraceTime)
		}
	}
	return f, lasts, nil
}

// trace tells what matching connections come to that are accepted from now on.
func (p *Proxier) trace(ctx context.Context, q url.Values, send func([]byte) error) error {
	f, lasts, err := traceOf(q)
	if err != nil {
		return err
	}
	one, end, err := p.data.tracer.Subscribe(f)
	if err != nil {
		return err
	}
	defer end()
	uid, _ := admin.Caller(ctx)
	p.cfg.Log.Infof("uid %d traces connections for %s (%s)", uid, lasts, q.Encode())
	tell := func(e admin.TraceEvent) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return send(append(observe.EscapeJSON(line), '\n'))
	}
	err = tell(admin.TraceEvent{Time: time.Now().UTC(), Event: admin.TraceBegin, Text: fmt.Sprintf("tracing connections that are accepted within %s", lasts)})
	over := time.NewTimer(lasts)
	defer over.Stop()
	for err == nil {
		select {
		case e := <-one.events:
			err = tell(e)
		case <-over.C:
			for n := len(one.events); n > 0 && err == nil; n-- {
				err = tell(<-one.events)
			}
			if err != nil {
				return err
			}
			end := admin.TraceEvent{Time: time.Now().UTC(), Event: admin.TraceEnd, Text: fmt.Sprintf("%s are over", lasts), Lost: int(one.lost.Load())}
			return tell(end)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
