package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// drainPoll is how often drain --wait looks.
const drainPoll = 500 * time.Millisecond

func newDrain() *cobra.Command {
	return changing("drain", "Keep new connections from something", newDrainEndpoint())
}

func newUndrain() *cobra.Command {
	return changing("undrain", "Let something that was drained have new connections again", newUndrainEndpoint())
}

// changing is a command that is nothing without another word.
func changing(use, short string, more ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: examples(more)}
	ofKinds(cmd)
	cmd.AddCommand(more...)
	return cmd
}

// examples are those of the kinds.
func examples(kinds []*cobra.Command) string {
	var all []string
	for _, kind := range kinds {
		all = append(all, kind.Example)
	}
	return strings.Join(all, "\n")
}

// drainOptions name an endpoint.
type drainOptions struct {
	namespace, service string
	admin              adminOptions
}

func (d *drainOptions) define(f *pflag.FlagSet) {
	f.StringVarP(&d.service, "service", "s", "", "only in this `SERVICE` or NAMESPACE/SERVICE (default: in all)")
	f.StringVarP(&d.namespace, "namespace", "n", "default", "of a pod or Service that is named without")
	d.admin.define(f)
}

// query names an endpoint by IP:PORT or IP, or else by its pod.
func (d *drainOptions) query(args []string) (url.Values, error) {
	if len(args) != 1 {
		return nil, usageError{fmt.Errorf("want one endpoint, as IP:PORT or IP, or its POD; not %d", len(args))}
	}
	q, err := endpointQuery("endpoint", args[0], d.namespace)
	if err != nil || d.service == "" {
		return q, err
	}
	of, err := serviceQuery(d.service, d.namespace)
	maps.Copy(q, of)
	return q, err
}

// endpointQuery is an address under a name, or a pod.
func endpointQuery(name, value, namespace string) (url.Values, error) {
	if _, err := netip.ParseAddr(value); err == nil {
		return url.Values{name: {value}}, nil
	}
	if _, err := netip.ParseAddrPort(value); err == nil {
		return url.Values{name: {value}}, nil
	}
	if !strings.Contains(value, "/") {
		value = namespace + "/" + value
	}
	space, pod, _ := strings.Cut(value, "/")
	if space == "" || pod == "" || strings.ContainsAny(pod, "/:") {
		return nil, usageError{fmt.Errorf("%q: want IP:PORT, IP, POD or NAMESPACE/POD", value)}
	}
	return url.Values{"pod": {value}}, nil
}

func newDrainEndpoint() *cobra.Command {
	d := &drainOptions{}
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "endpoint IP:PORT|IP|[NAMESPACE/]POD",
		Aliases: []string{"ep"},
		Short:   "Keep new connections from an endpoint, on this node",
		Long: `endpoint keeps new connections from an endpoint as if it had left its Services: clients
that session affinity has bound to it get another one, and UDP sessions move. TCP
connections that it has go on. Where no endpoint is left, the Service has none.

That holds on this node only, until usher undrain or a restart of usher. Kubernetes
knows nothing of it. Only root may do it, and the log tells who did.

The exit code is 0, or 1 if --wait was in vain, 2 if no usher can be asked, 3 if the
command line cannot be meant, and 4 if no Service has such an endpoint.`,
		Example: `  usher drain endpoint 10.244.1.7:8080
  usher drain endpoint shop/api-0 -s shop/api --wait --timeout 2m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := d.query(args)
			if err != nil {
				return err
			}
			if timeout <= 0 {
				return usageError{fmt.Errorf("--timeout=%s: want more than 0", timeout)}
			}
			done, err := d.post(cmd, "/v1/drain", q)
			if err != nil {
				return err
			}
			printDrained(cmd, "drained", done)
			if wait {
				return d.wait(cmd, done, timeout)
			}
			return nil
		},
	}
	d.define(cmd.Flags())
	cmd.ValidArgsFunction = completeDrainable
	flagWords(cmd, nil)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it has no connection left")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "for how long --wait does")
	return cmd
}

func (d *drainOptions) post(cmd *cobra.Command, path string, q url.Values) (done []admin.Drained, err error) {
	if err := d.admin.check(); err != nil {
		return nil, err
	}
	return done, asUsage(admin.Post(cmd.Context(), d.admin.socket, path, q, &done))
}

// wait looks until nothing is left on what was drained.
func (d *drainOptions) wait(cmd *cobra.Command, done []admin.Drained, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	look := time.NewTicker(drainPoll)
	defer look.Stop()
	for {
		var now []admin.Drained
		if err := admin.Get(ctx, d.admin.socket, "/v1/drained", nil, &now); err != nil && ctx.Err() == nil {
			return err
		} else if err == nil {
			now = slices.DeleteFunc(now, func(a admin.Drained) bool {
				return !slices.ContainsFunc(done, func(b admin.Drained) bool { return sameTarget(a, b) })
			})
			if len(now) == 0 {
				return errors.New("it is not drained any more: somebody has taken that back, or usher was restarted")
			}
			if done = now; connectionsLeft(done) == 0 {
				return nil
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("it still has %s after %s; usher kill connection ends them", counted(connectionsLeft(done), "connection"), timeout)
		}
	}
}

func sameTarget(a, b admin.Drained) bool {
	return a.Endpoint == b.Endpoint && a.Pod == b.Pod && a.Namespace == b.Namespace && a.Service == b.Service
}

func connectionsLeft(list []admin.Drained) (n int) {
	for _, d := range list {
		for _, e := range d.Endpoints {
			if e.Connections != nil {
				n += *e.Connections
			}
		}
	}
	return n
}

// counted is a number of something, as in 1 connection and 2 connections.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// printDrained has a line for each endpoint.
func printDrained(cmd *cobra.Command, what string, list []admin.Drained) {
	for _, d := range list {
		name := d.Pod
		if d.Endpoint != "" {
			name = d.Endpoint
		}
		if len(d.Endpoints) == 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s: no EndpointSlice names it now\n", observe.Printable(name), what)
		}
		for _, e := range d.Endpoints {
			left := "sessions of UDP move by themselves"
			if e.Connections != nil {
				left = counted(*e.Connections, "connection")
			}
			pod := ""
			if e.Pod != "" {
				pod = ", pod " + e.Pod
			}
			port := e.Namespace + "/" + e.Service
			if e.PortName != "" {
				port += ":" + e.PortName
			}
			fmt.Fprintln(cmd.OutOrStdout(), observe.Printable(fmt.Sprintf("%s %s: %s%s (%s)", e.Address, what, port, pod, left)))
		}
	}
}

func newUndrainEndpoint() *cobra.Command {
	d := &drainOptions{}
	var all bool
	cmd := &cobra.Command{
		Use:     "endpoint IP:PORT|IP|[NAMESPACE/]POD | --all",
		Aliases: []string{"ep"},
		Short:   "Let an endpoint that was drained have new connections again",
		Long: `endpoint takes back what usher drain endpoint has done on this node, named as it was
then. Only root may do it.`,
		Example: `  usher undrain endpoint 10.244.1.7:8080
  usher undrain endpoint --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"all": {"true"}}
			if all && (len(args) > 0 || d.service != "") {
				return usageError{errors.New("name an endpoint, or give --all, not both")}
			}
			if !all {
				var err error
				if q, err = d.query(args); err != nil {
					return err
				}
			}
			done, err := d.post(cmd, "/v1/undrain", q)
			if err != nil {
				return err
			}
			printDrained(cmd, "undrained", done)
			if len(done) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "Nothing was drained.")
			}
			return nil
		},
	}
	d.define(cmd.Flags())
	cmd.ValidArgsFunction = completeDrainable
	flagWords(cmd, nil)
	cmd.Flags().BoolVar(&all, "all", false, "all endpoints that are drained")
	return cmd
}
