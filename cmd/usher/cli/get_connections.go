package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier/admin"
)

// mostLive is how many usher tells at most.
const mostLive = 100_000

// liveFilter says which connections or sessions somebody wants to see.
type liveFilter struct {
	service, pod, client string
	older                time.Duration
	limit                int
}

func (l *liveFilter) define(f *pflag.FlagSet) {
	f.StringVarP(&l.service, "service", "s", "", "only those of the Service `[NAMESPACE/]NAME`")
	f.StringVar(&l.pod, "pod", "", "only those to the endpoint of the Pod `[NAMESPACE/]NAME`")
	f.StringVar(&l.client, "client", "", "only those of the client's `address or CIDR`")
	f.DurationVar(&l.older, "older", 0, "only those that have lasted for longer")
	f.IntVar(&l.limit, "limit", 1000, "how many to show at most, the oldest first")
}

// query is what usher is asked. Clients and Pods are looked for in all namespaces, unless
// one is named.
func (l *liveFilter) query(g *getter) (url.Values, error) {
	if l.limit < 1 || l.limit > mostLive {
		return nil, usageError{fmt.Errorf("--limit=%d: want 1 to %d", l.limit, mostLive)}
	}
	if l.older < 0 {
		return nil, usageError{fmt.Errorf("--older=%s: want a duration that is not negative", l.older)}
	}
	if (l.client != "" || l.pod != "") && !g.namespaceSet {
		g.all = true
	}
	q := g.scope()
	if l.service != "" {
		var err error
		if q, err = serviceQuery(l.service, g.namespace); err != nil {
			return nil, err
		}
	}
	for name, value := range map[string]string{"pod": l.pod, "client": l.client} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if err := checkFilter(q); err != nil {
		return nil, err
	}
	limit := l.limit
	if l.older > 0 || g.fits != nil {
		limit = mostLive // as more is left out here
	}
	q.Set("limit", strconv.Itoa(limit))
	return q, nil
}

// cut leaves out what is too young, and what is beyond the limit.
func cut[T any](l *liveFilter, g *getter, found []T, more int, fits func(*T) bool) []T {
	found = slices.DeleteFunc(found, func(t T) bool { return !fits(&t) })
	if len(found) > l.limit {
		found, more = found[:l.limit], more+len(found)-l.limit
	}
	if more > 0 && !g.watch {
		g.tell("%d more are not shown; --limit=%d shows them too.\n", more, len(found)+more)
	}
	return found
}

func newGetConnections() *cobra.Command {
	type row = admin.Connection
	filter := &liveFilter{}
	return kind[row, row]{
		names: []string{"connections", "connection", "conn", "conns"}, singular: "connection", use: "[ID...]",
		short: "List the connections that last",
		long: `connections lists the connections that the usher on this node serves now, the oldest
first. IN and OUT are bytes from and to the client. An ID is found in any namespace;
so are the connections of a --client or --pod, unless --namespace is given.

usher describe connection ID tells all about one, also for a while after its end.`,
		example: `  usher get connections -A --older 1h
  usher get conn -s shop/web -o wide --sort-by=out
  usher get conn --client 10.0.0.0/24 -w`,
		flags: filter.define, complete: completeConnections,
		rows: itself[row], single: true,
		name: func(c *row) string { return c.ID },
		id:   func(c *row) string { return c.ID },
		of:   func(c *row) (string, string) { return c.Namespace, c.Service },
		ask: func(ctx context.Context, g *getter, ids []string) ([]row, error) {
			if len(ids) > 0 {
				return connectionsByID(ctx, g.admin.socket, ids)
			}
			q, err := filter.query(g)
			if err != nil {
				return nil, err
			}
			var found admin.Connections
			err = admin.Get(ctx, g.admin.socket, "/v1/connections", q, &found)
			return cut(filter, g, found.Connections, found.More, func(c *row) bool {
				return c.AgeSeconds >= filter.older.Seconds() && g.wants(c.Namespace, c.Service)
			}), err
		},
		columns: slices.Concat([]column[row]{
			{title: "ID", cell: func(c *row) string { return c.ID }},
			{title: "SERVICE", cell: func(c *row) string { return c.Namespace + "/" + c.Service }},
			{title: "PORT", cell: func(c *row) string { return c.PortName }},
			{title: "STATE", cell: func(c *row) string { return c.State }},
			{title: "CLIENT", cell: func(c *row) string { return c.Client }},
			{title: "ENDPOINT", cell: func(c *row) string { return c.Endpoint }},
			{title: "POD", cell: func(c *row) string { return c.Pod }},
			{title: "IN", cell: func(c *row) string { return byteCount(c.BytesIn) }, order: by(func(c *row) int64 { return c.BytesIn })},
			{title: "OUT", cell: func(c *row) string { return byteCount(c.BytesOut) }, order: by(func(c *row) int64 { return c.BytesOut })},
			{title: "AGE", moves: true, cell: func(c *row) string { return seconds(c.AgeSeconds) }, order: by(func(c *row) float64 { return c.AgeSeconds })},
		}, inWide(
			column[row]{title: "FAMILY", cell: func(c *row) string { return c.Family }},
			column[row]{title: "VIP", cell: func(c *row) string { return c.VIP }},
			column[row]{title: "SET", cell: func(c *row) string { return c.Set }},
			column[row]{title: "BALANCER", cell: func(c *row) string { return c.Balancer }},
			column[row]{title: "AFFINITY", cell: func(c *row) string { return c.Affinity }},
			column[row]{title: "NODE", cell: func(c *row) string { return c.Node }},
			column[row]{title: "ZONE", cell: func(c *row) string { return c.Zone }},
			column[row]{title: "SOURCE", cell: func(c *row) string { return c.Source }},
			column[row]{title: "CONNECT", cell: func(c *row) string { return milliseconds(c.ConnectMs) }, order: by(func(c *row) float64 { return c.ConnectMs })},
			numeric("FAILED", func(c *row) int { return len(c.Attempts) }),
			column[row]{title: "CLOSED", cell: func(c *row) string { return c.Closed }},
		)),
	}.command()
}

// connectionsByID are those of them that last.
func connectionsByID(ctx context.Context, socket string, ids []string) (list []admin.Connection, err error) {
	list = []admin.Connection{}
	for _, id := range ids {
		var found admin.Connections
		fault := admin.Get(ctx, socket, "/v1/connections", url.Values{"id": {id}}, &found)
		if fault == nil && len(found.Connections) == 0 {
			fault = &admin.Error{Status: 404, Message: fmt.Sprintf("no connection %q lasts; usher describe connection also tells of those that have ended", id)}
		}
		list, err = append(list, found.Connections...), errors.Join(err, fault)
		if errors.Is(fault, admin.ErrUnreachable) {
			break
		}
	}
	return list, err
}
