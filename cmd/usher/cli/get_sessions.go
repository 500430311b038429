package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
)

func newGetSessions() *cobra.Command {
	type row = admin.Session
	filter := &liveFilter{}
	return kind[row, row]{
		names: []string{"sessions", "session", "sess"}, singular: "session", use: "",
		short: "List the UDP sessions that last",
		long: `sessions lists the UDP sessions that the usher on this node has: the datagrams between
one client's address and port and one endpoint. IN and OUT are datagrams from and to
the client, IDLE is how long ago the last one came.`,
		example: `  usher get sessions -n kube-system
  usher get sess --client 10.0.0.5 -o wide
  usher get sess -A --sort-by=idle`,
		flags: filter.define, complete: nothingMore,
		rows: itself[row],
		name: func(s *row) string { return s.Client },
		id: func(s *row) string {
			return s.Namespace + "/" + s.Service + "/" + s.PortName + "/" + s.Client + "/" + s.VIP + "/" + s.Endpoint
		},
		of: func(s *row) (string, string) { return s.Namespace, s.Service },
		ask: func(ctx context.Context, g *getter, args []string) ([]row, error) {
			if len(args) > 0 {
				return nil, usageError{fmt.Errorf("unexpected argument %q: sessions have no names; see --service and --client", args[0])}
			}
			q, err := filter.query(g)
			if err != nil {
				return nil, err
			}
			var found admin.Sessions
			err = admin.Get(ctx, g.admin.socket, "/v1/sessions", q, &found)
			return cut(filter, g, found.Sessions, found.More, func(s *row) bool {
				return s.AgeSeconds >= filter.older.Seconds() && g.wants(s.Namespace, s.Service)
			}), err
		},
		columns: slices.Concat([]column[row]{
			{title: "SERVICE", cell: func(s *row) string { return s.Namespace + "/" + s.Service }},
			{title: "PORT", cell: func(s *row) string { return s.PortName }},
			{title: "CLIENT", cell: func(s *row) string { return s.Client }},
			{title: "ENDPOINT", cell: func(s *row) string { return s.Endpoint }},
			{title: "POD", cell: func(s *row) string { return s.Pod }},
			{title: "ANSWERED", cell: func(s *row) string { return fmt.Sprint(s.Answered) }},
			numeric("IN", func(s *row) int64 { return s.DatagramsIn }),
			numeric("OUT", func(s *row) int64 { return s.DatagramsOut }),
			{title: "IDLE", moves: true, cell: func(s *row) string { return seconds(s.IdleSeconds) }, order: by(func(s *row) float64 { return s.IdleSeconds })},
			{title: "AGE", moves: true, cell: func(s *row) string { return seconds(s.AgeSeconds) }, order: by(func(s *row) float64 { return s.AgeSeconds })},
		}, inWide(
			column[row]{title: "FAMILY", cell: func(s *row) string { return s.Family }},
			column[row]{title: "VIP", cell: func(s *row) string { return s.VIP }},
			column[row]{title: "NODE", cell: func(s *row) string { return s.Node }},
			column[row]{title: "BYTES-IN", cell: func(s *row) string { return byteCount(s.BytesIn) }, order: by(func(s *row) int64 { return s.BytesIn })},
			column[row]{title: "BYTES-OUT", cell: func(s *row) string { return byteCount(s.BytesOut) }, order: by(func(s *row) int64 { return s.BytesOut })},
		)),
	}.command()
}
