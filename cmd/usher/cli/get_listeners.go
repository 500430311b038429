package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
)

func newGetListeners() *cobra.Command {
	type row = admin.Listener
	return kind[row, row]{
		names: []string{"listeners", "listener", "ls"}, singular: "listener", use: "[[NAMESPACE/]SERVICE...]",
		short: "List the sockets that Services are served on",
		long: `listeners lists the sockets of the usher on this node: for which Service port each is,
which frontends (addresses that clients dial) lead to it, and what clients get there.
ACTIVE are the connections of the Service port in that family, or its UDP sessions in
both, of all its listeners together.`,
		example: `  usher get listeners shop/web
  usher get listeners -A -o json`,
		rows: itself[row],
		name: func(l *row) string { return l.Address },
		id: func(l *row) string {
			return l.Namespace + "/" + l.Service + "/" + l.PortName + "/" + l.Protocol + "/" + l.Address + "/" + l.Set
		},
		of:  func(l *row) (string, string) { return l.Namespace, l.Service },
		ask: ofServices[row]("/v1/listeners"),
		columns: []column[row]{
			{title: "SERVICE", cell: func(l *row) string {
				if l.Service == "" {
					return "" // those who may not use any come here
				}
				return l.Namespace + "/" + l.Service
			}},
			{title: "PORT", cell: func(l *row) string { return strings.TrimPrefix(l.PortName+"/"+l.Protocol, "/") }},
			{title: "FAMILY", cell: func(l *row) string { return l.Family }},
			{title: "ADDRESS", cell: func(l *row) string { return l.Address }},
			{title: "ANSWER", cell: func(l *row) string { return l.Answer }},
			{title: "SET", cell: func(l *row) string { return l.Set }},
			numeric("ACTIVE", func(l *row) int64 { return l.Active }),
			{title: "FRONTENDS", cell: func(l *row) string { return strings.Join(l.Frontends, ", ") }},
		},
	}.command()
}
