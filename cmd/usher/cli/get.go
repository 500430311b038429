package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

func newGet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Show what the usher that runs on this node does",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGetEndpoints())
	return cmd
}

func newGetEndpoints() *cobra.Command {
	g := &getEndpoints{}
	cmd := &cobra.Command{
		Use:     "endpoints [NAMESPACE/]SERVICE... | --all",
		Aliases: []string{"endpoint", "ep"},
		Short:   "Tell of each endpoint of Services whether it is in or out, and why",
		Long: `endpoints tells of every endpoint that the EndpointSlices of a Service name whether
it gets connections from the usher on this node, and why. Without the name of a
Service it tells of all in the namespace.

SETS are those in which an endpoint is eligible: cluster, and local for clients
that are to stay on this node. CONNS are the connections that it has.

The exit code is 0, or 2 if no usher can be asked, 3 if the command line cannot be
meant, 4 if there is no such Service, and 1 if something else is wrong.`,
		Example: `  usher get endpoints kube-system/kube-dns
  usher get endpoints -n shop -o wide
  usher get endpoints --all -o json`,
		RunE: func(cmd *cobra.Command, args []string) error { return g.run(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&g.namespace, "namespace", "n", "default", "of Services that are named without")
	f.BoolVarP(&g.all, "all-namespaces", "A", false, "tell of all Services")
	alias(f, "all", "all-namespaces", nil)
	f.StringVarP(&g.format, "output", "o", "table", "table, wide, json or yaml")
	g.admin.define(f)
	return cmd
}

// getEndpoints is one call of usher get endpoints.
type getEndpoints struct {
	namespace string
	all       bool
	format    string
	admin     adminOptions
}

func (g *getEndpoints) run(cmd *cobra.Command, args []string) error {
	print, known := formats[g.format]
	switch {
	case !known:
		return usageError{fmt.Errorf("--output=%s: want table, wide, json or yaml", g.format)}
	case g.all && len(args) > 0:
		return usageError{errors.New("give names, or --all, not both")}
	}
	if err := g.admin.check(); err != nil {
		return err
	}
	found, err := g.ask(cmd.Context(), args)
	if len(found) == 0 && err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "No Services are served.")
	}
	if len(found) == 0 && (err != nil || g.format == "table" || g.format == "wide") {
		return err
	}
	return errors.Join(print(cmd.OutOrStdout(), found), err)
}

// ask returns what was found, whatever else was not.
func (g *getEndpoints) ask(ctx context.Context, names []string) (found []admin.ServicePort, err error) {
	var queries []url.Values
	for _, name := range names {
		namespace, service, ok := strings.Cut(name, "/")
		if !ok {
			namespace, service = g.namespace, name
		}
		if namespace == "" || service == "" {
			return nil, usageError{fmt.Errorf("%q: want SERVICE or NAMESPACE/SERVICE", name)}
		}
		queries = append(queries, url.Values{"namespace": {namespace}, "service": {service}})
	}
	switch {
	case g.all:
		queries = []url.Values{{}}
	case len(names) == 0:
		queries = []url.Values{{"namespace": {g.namespace}}}
	}
	found = []admin.ServicePort{}
	for _, q := range queries {
		var some []admin.ServicePort
		fault := admin.Get(ctx, g.admin.socket, "/v1/endpoints", q, &some)
		found, err = append(found, some...), errors.Join(err, fault)
		if errors.Is(fault, admin.ErrUnreachable) {
			break
		}
	}
	return found, err
}

// formats are those of --output.
var formats = map[string]func(io.Writer, []admin.ServicePort) error{
	"table": func(w io.Writer, list []admin.ServicePort) error { return endpointTable(w, list, false) },
	"wide":  func(w io.Writer, list []admin.ServicePort) error { return endpointTable(w, list, true) },
	"json":  asJSON[[]admin.ServicePort],
	"yaml":  asYAML[[]admin.ServicePort],
}

// endpointTable has a line for each endpoint, and one for a port without any.
func endpointTable(w io.Writer, list []admin.ServicePort, wide bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	row := func(first []string, more []string, why string) {
		if wide {
			first = append(first, more...)
		}
		for _, cell := range first {
			fmt.Fprintf(t, "%s\t", observe.Printable(orNone(cell)))
		}
		fmt.Fprintln(t, observe.Printable(why))
	}
	row([]string{"SERVICE", "PORT", "FAMILY", "ENDPOINT", "POD", "SETS", "STATE", "CONNS"}, []string{"NODE", "ZONE", "WEIGHT", "BALANCER"}, "WHY")
	for _, p := range list {
		port := []string{p.Namespace + "/" + p.Service, portOf(p), p.Family}
		for _, e := range p.Endpoints {
			sets := make([]string, len(e.Sets))
			for i, s := range e.Sets {
				sets[i] = string(s)
			}
			conns, weight := "<unknown>", ""
			if e.Connections != nil {
				conns = strconv.Itoa(*e.Connections)
			}
			if e.Weight > 0 {
				weight = strconv.Itoa(e.Weight)
			}
			row(append(slices.Clip(port), e.Address, strings.TrimPrefix(e.Pod, p.Namespace+"/"), strings.Join(sets, ","), string(e.State), conns),
				[]string{e.Node, e.Zone, weight, p.Balancer}, e.Why)
		}
		if len(p.Endpoints) == 0 {
			row(append(slices.Clip(port), "", "", "", "", ""), []string{"", "", "", p.Balancer}, "no EndpointSlice names any")
		}
	}
	return t.Flush()
}

// portOf is http/tcp, or 80/tcp for a port without name.
func portOf(p admin.ServicePort) string {
	name := p.PortName
	if name == "" {
		name = strconv.Itoa(int(p.Port))
	}
	return name + "/" + p.Protocol
}

func orNone(cell string) string {
	if cell == "" {
		return "<none>"
	}
	return cell
}
