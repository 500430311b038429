package cli

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// errNotServed is for the exit code: the verdict has been printed.
var errNotServed = errors.New("such a connection would not be served")

func newExplain() *cobra.Command {
	w := &wayOptions{}
	var format string
	cmd := &cobra.Command{
		Use:   "explain [NAMESPACE/]SERVICE[:PORT]",
		Short: "Tell how a connection to a Service would go, without sending anything",
		Long: `explain follows a client's connection to a Service on this node, step by step: from
the address that it dials, by traffic policies, source ranges, the rules in the kernel,
usher's socket, limits and session affinity to the endpoints, each of them in or out and
why. Nothing is sent, and nothing is changed by the question.

PORT is the name or the number of a port; a Service with one port needs none. SHARE is
the part of new connections that an endpoint gets, and ORDER who would be next, where
the balancer policy can tell.

The exit code is 0 if the connection would be served and 1 if not, 2 if no usher can be
asked, 3 if the command line cannot be meant, and 4 if there is no such Service, or no
such address of it.`,
		Example: `  usher explain web
  usher explain kube-system/kube-dns:dns -p udp --from 10.244.1.7
  usher explain shop/api:80 --vip 203.0.113.10 --from 198.51.100.4 -o yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			print, known := explainFormats[format]
			if !known {
				return usageError{fmt.Errorf("--output=%s: want table, json or yaml", format)}
			}
			x, err := w.ask(cmd, args)
			if err != nil {
				return err
			}
			if err := print(cmd.OutOrStdout(), x); err != nil {
				return err
			}
			if x.Answer != "serve" {
				return errNotServed
			}
			return nil
		},
	}
	w.define(cmd.Flags())
	cmd.Flags().StringVar(&w.from, "from", "", "`address` of the client (default: a process of this node)")
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	w.completions(cmd)
	return cmd
}

// wayOptions name a way to a Service: for those who ask usher to explain it.
type wayOptions struct {
	namespace, protocol, from, vip string
	admin                          adminOptions
}

func (w *wayOptions) define(f *pflag.FlagSet) {
	f.StringVarP(&w.namespace, "namespace", "n", "default", "of a Service that is named without")
	f.StringVarP(&w.protocol, "protocol", "p", "", "`tcp` or udp, if the port is not clear without")
	f.StringVar(&w.vip, "vip", "", "`address` of the Service that is dialled, as IP or IP:port (default: its ClusterIP)")
	w.admin.define(f)
}

// completions are what a shell may offer for them.
func (w *wayOptions) completions(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nothingMore(cmd, args, typed)
		}
		return completeServices(cmd, args, typed)
	}
	flagWords(cmd, map[string]cobra.CompletionFunc{
		"protocol": words("tcp", "udp"), "output": words("table", "json", "yaml"), "from": nothingMore, "vip": nothingMore, "count": nothingMore, "timeout": nothingMore,
	})
}

// ask has usher explain the way to the one Service that is named.
func (w *wayOptions) ask(cmd *cobra.Command, args []string) (x admin.Explanation, err error) {
	if len(args) != 1 {
		return x, usageError{fmt.Errorf("want one SERVICE, not %d", len(args))}
	}
	if err := w.admin.check(); err != nil {
		return x, err
	}
	query, err := w.query(args[0])
	if err != nil {
		return x, err
	}
	return x, asUsage(admin.Get(cmd.Context(), w.admin.socket, "/v1/explain", query, &x))
}

func (w *wayOptions) query(name string) (url.Values, error) {
	whole := name
	name, port, hasPort := strings.Cut(name, ":")
	q, err := serviceQuery(name, w.namespace)
	if err != nil || hasPort && port == "" {
		return nil, usageError{fmt.Errorf("%q: want [NAMESPACE/]SERVICE[:PORT]", whole)}
	}
	for key, value := range map[string]string{"port": port, "protocol": w.protocol, "from": w.from, "vip": w.vip} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if _, err := netip.ParseAddr(w.from); w.from != "" && err != nil {
		return nil, usageError{fmt.Errorf("--from=%s: want an IP address", w.from)}
	}
	if w.protocol != "" && w.protocol != "tcp" && w.protocol != "udp" {
		return nil, usageError{fmt.Errorf("--protocol=%s: want tcp or udp", w.protocol)}
	}
	return q, nil
}

// asUsage is for what usher finds wrong with a question.
func asUsage(err error) error {
	var answer *admin.Error
	if errors.As(err, &answer) && answer.Status == 400 {
		return usageError{err}
	}
	return err
}

var explainFormats = map[string]func(io.Writer, admin.Explanation) error{
	"table": explainTable,
	"json":  asJSON[admin.Explanation],
	"yaml":  asYAML[admin.Explanation],
}

// explainTable numbers the steps, then lists the candidates.
func explainTable(w io.Writer, x admin.Explanation) error {
	for i, s := range x.Steps {
		fmt.Fprintf(w, "%2d. %-4s  %-9s  %s\n", i+1, s.Result, observe.Printable(s.Name), observe.Printable(s.Text))
		for _, e := range s.Evidence {
			fmt.Fprintf(w, "%21s%s\n", "", observe.Printable(e))
		}
	}
	fmt.Fprintln(w)
	_, err := fmt.Fprintf(w, "%s\n%s\n", candidatesTable(x.Candidates), observe.Printable(x.Verdict))
	return err
}

func candidatesTable(list []admin.Candidate) string {
	if len(list) == 0 {
		return "No EndpointSlice names an endpoint.\n"
	}
	rows := [][]string{{"ENDPOINT", "POD", "NODE", "STATE", "ORDER", "SHARE", "WHY"}}
	for _, c := range list {
		order, share := "", ""
		if c.Order > 0 {
			order = fmt.Sprint(c.Order)
		}
		if c.Share > 0 {
			share = fmt.Sprintf("%.1f%%", 100*c.Share)
		}
		rows = append(rows, []string{c.Address, c.Pod, c.Node, string(c.State), order, share, c.Why})
	}
	return new(table).lines(rows)
}
