package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

func newStatus() *cobra.Command {
	var format string
	cmd := asking("status", "Tell how the usher that runs on this node is",
		`status tells whether the usher on this node serves, how it captures traffic and why so,
and how much there is of it.

The exit code is 0 if it serves, 1 if it does not yet, and 2 if no usher can be asked.`,
		func(cmd *cobra.Command, socket string) error {
			print, known := statusFormats[format]
			if !known {
				return usageError{fmt.Errorf("--output=%s: want table, json or yaml", format)}
			}
			var s admin.Status
			if err := admin.Get(cmd.Context(), socket, "/v1/status", url.Values{}, &s); err != nil {
				return err
			}
			if err := print(cmd.OutOrStdout(), s); err != nil {
				return err
			}
			if !s.Ready {
				return fmt.Errorf("usher does not serve yet")
			}
			return nil
		})
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	return cmd
}

var statusFormats = map[string]func(io.Writer, admin.Status) error{
	"table": statusTable,
	"json":  asJSON[admin.Status],
	"yaml":  asYAML[admin.Status],
}

func statusTable(w io.Writer, s admin.Status) error {
	ready := "serving"
	if !s.Ready {
		ready = "not serving yet"
	}
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, row := range [][2]string{
		{"STATE", ready},
		{"VERSION", s.Version},
		{"NODE", s.Node},
		{"CAPTURE", fmt.Sprintf("%s, %s", s.Capture, s.CaptureWhy)},
		{"FAMILIES", strings.Join(s.Families, ", ")},
		{"SERVICE PORTS", fmt.Sprint(s.Ports)},
		{"CONNECTIONS", fmt.Sprint(s.Connections)},
		{"UDP SESSIONS", fmt.Sprint(s.UDPSessions)},
	} {
		fmt.Fprintf(t, "%s\t%s\n", row[0], observe.Printable(orNone(row[1])))
	}
	return t.Flush()
}
