package proxier

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// feeds are what can be followed at the admin socket.
func (p *Proxier) feeds() map[string]admin.Feed {
	return map[string]admin.Feed{
		"/v1/flows":   {Parameters: slices.Concat(filterParameters, []string{"last", "follow"}), Run: p.sendFlows},
		"/v1/trace":   {Parameters: traceParameters, Change: true, Run: p.trace},
		"/v1/upgrade": {Change: true, Run: p.upgrade},
	}
}

// filterParameters are those of observe.ParseFilter.
var filterParameters = []string{"namespace", "service", "pod", "client", "reason", "side", "errors", "since"}

// filterIn reads them.
func filterIn(q url.Values, now time.Time) (observe.Filter, error) {
	f, err := observe.ParseFilter(q, now)
	if err != nil {
		return f, badRequest("%v", err)
	}
	return f, nil
}

// lastByDefault is how many records come before those that are followed.
const lastByDefault = 100

// sendFlows sends the records of connections and UDP sessions that have ended, a line each,
// the oldest first: the last ones, and those to come if they are to be followed. A line
// {"lost":N} stands for records that were overwritten before they could be sent.
func (p *Proxier) sendFlows(ctx context.Context, q url.Values, send func([]byte) error) error {
	f, err := filterIn(q, time.Now())
	if err != nil {
		return err
	}
	last, err := numberIn(q, "last", lastByDefault, 1<<30)
	if err != nil {
		return err
	}
	follow := false
	if text := q.Get("follow"); text != "" {
		if follow, err = strconv.ParseBool(text); err != nil {
			return badRequest("follow=%q: want true or false", text)
		}
	}
	if follow {
		return p.followFlows(ctx, f, last, send)
	}
	var newest []*observe.Record
	if last > 0 {
		for r := range p.recent.Newest(f) {
			if newest = append(newest, r); len(newest) == last {
				break
			}
		}
	}
	slices.Reverse(newest)
	var lines []byte
	for some := range slices.Chunk(newest, 128) {
		lines = lines[:0]
		for _, r := range some {
			lines = observe.AppendJSON(lines, r)
		}
		if send(lines) != nil {
			return nil // it has gone
		}
	}
	return nil
}

func (p *Proxier) followFlows(ctx context.Context, f observe.Filter, last int, send func([]byte) error) error {
	defer p.data.observer.Follow()()
	follower := p.recent.Follow(f, last)
	err := send(nil) // it is there, though there may be nothing to tell for long
	var lines []byte
	for err == nil {
		records, lost, gone := follower.Next(ctx)
		if gone != nil {
			return nil
		}
		lines = lines[:0]
		if lost > 0 {
			lines = fmt.Appendf(lines, "{\"lost\":%d}\n", lost)
		}
		for _, r := range records {
			lines = observe.AppendJSON(lines, r)
		}
		err = send(lines)
	}
	return nil
}
