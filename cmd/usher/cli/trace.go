package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// longestTrace is how long usher traces at most.
const longestTrace = time.Hour

// traceOptions say what is traced.
type traceOptions struct {
	from, service, namespace, format string
	duration                         time.Duration
	admin                            adminOptions
}

func newTrace() *cobra.Command {
	o := &traceOptions{}
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Tell what happens to new connections, event by event",
		Long: `trace tells of every TCP connection that is accepted from now on and matches: what it
has dialled, who the client is, limits, each attempt to connect with its result, the
first bytes, who has ended it and how, and why. It ends by itself.

The first number of a line is the time since the connection was accepted, in
milliseconds. How the two sides have ended is told when both have, with the time at
which each did. At most 8 traces run at a time; events that were too many to be told are
counted. Only root may trace.`,
		Example: `  usher trace --to-service shop/api
  usher trace --from 10.244.1.0/24 --duration 5m -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "only of clients in this `CIDR`, or with this address")
	f.StringVar(&o.service, "to-service", "", "only to this `SERVICE` or NAMESPACE/SERVICE")
	f.StringVarP(&o.namespace, "namespace", "n", "default", "of a Service that is named without")
	f.DurationVar(&o.duration, "duration", 30*time.Second, "for how long, at most 1h")
	f.StringVarP(&o.format, "output", "o", "text", "text or json")
	o.admin.define(f)
	cmd.ValidArgsFunction = nothingMore
	flagWords(cmd, map[string]cobra.CompletionFunc{"output": words("text", "json"), "from": nothingMore, "duration": nothingMore})
	return cmd
}

func (o *traceOptions) query() (url.Values, error) {
	q := url.Values{"duration": {o.duration.String()}}
	if o.duration <= 0 || o.duration > longestTrace {
		return nil, usageError{fmt.Errorf("--duration=%s: want more than 0 and at most %s", o.duration, longestTrace)}
	}
	if o.from != "" {
		_, noAddr := netip.ParseAddr(o.from)
		if _, noPrefix := netip.ParsePrefix(o.from); noAddr != nil && noPrefix != nil {
			return nil, usageError{fmt.Errorf("--from=%s: want an address or a CIDR", o.from)}
		}
		q.Set("client", o.from)
	}
	if o.service != "" {
		of, err := serviceQuery(o.service, o.namespace)
		if err != nil {
			return nil, err
		}
		maps.Copy(q, of)
	}
	return q, nil
}

func (o *traceOptions) run(cmd *cobra.Command) error {
	giveWay()
	q, err := o.query()
	if err != nil {
		return err
	}
	if o.format != "text" && o.format != "json" {
		return usageError{fmt.Errorf("--output=%s: want text or json", o.format)}
	}
	if err := o.admin.check(); err != nil {
		return err
	}
	if o.service != "" {
		o.tellIfMissing(cmd, q.Get("namespace"), q.Get("service"))
	}
	return asUsage(admin.Stream(cmd.Context(), o.admin.socket, http.MethodPost, "/v1/trace", q, func(line []byte) error {
		if o.format == "json" {
			_, err := cmd.OutOrStdout().Write(append(observe.EscapeJSON(line), '\n'))
			return err
		}
		var e admin.TraceEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("a line of the trace: %w", err)
		}
		return printTraced(cmd.OutOrStdout(), cmd.ErrOrStderr(), e)
	}, nil))
}

// tellIfMissing says that nobody serves the Service now: it may come, or be misspelt.
func (o *traceOptions) tellIfMissing(cmd *cobra.Command, namespace, service string) {
	var served []admin.Service
	err := admin.Get(cmd.Context(), o.admin.socket, "/v1/services", url.Values{"namespace": {namespace}}, &served)
	if err != nil || slices.ContainsFunc(served, func(s admin.Service) bool { return s.Name == service }) {
		return
	}
	fmt.Fprintln(cmd.ErrOrStderr(), observe.Printable(fmt.Sprintf("no Service %s/%s is served on this node now.", namespace, service)))
}

// printTraced prints an event in a line.
func printTraced(w, messages io.Writer, e admin.TraceEvent) error {
	if e.Lost > 0 {
		fmt.Fprintf(messages, "%d events were lost here.\n", e.Lost)
	}
	if e.ID == "" {
		_, err := fmt.Fprintf(messages, "%s.\n", observe.Printable(e.Text))
		return err
	}
	about := ""
	if e.Event == "accepted" {
		about = fmt.Sprintf("%s -> %s/%s: ", e.Client, e.Namespace, e.Service)
	}
	if e.Endpoint != "" {
		about = e.Endpoint + ": "
		if e.Pod != "" {
			about = fmt.Sprintf("%s (pod %s): ", e.Endpoint, e.Pod)
		}
	}
	text := about + e.Text
	if e.Errno != "" {
		text += " (" + e.Errno + ")"
	}
	_, err := fmt.Fprintf(w, "%-14s %10.3f  %-13s %s\n", observe.Printable(e.ID), e.Ms, observe.Printable(e.Event), observe.Printable(text))
	return err
}
