package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/usher-proxy/usher/proxier/admin"
)

// exitCodes is for the end of a help.
const exitCodes = `

The exit code is 0, or 2 if no usher can be asked, 3 if the command line cannot be
meant, 4 if what was named does not exist, and 1 if something else is wrong.`

func newGet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Show what the usher that runs on this node does",
		Long: `get lists what the usher that runs on this node knows and does, with the habits of
kubectl get. It asks usher itself, and needs no kubeconfig.` + exitCodes,
		Example: `  usher get services -A --sort-by=trouble
  usher get endpoints kube-system/kube-dns
  usher get connections --client 10.0.0.5 -o wide
  usher get services -l app=web -o jsonpath='{range .items[*]}{.name}{"\n"}{end}'`,
	}
	ofKinds(cmd)
	cmd.AddCommand(newGetServices(), newGetEndpoints(), newGetConnections(), newGetSessions(), newGetListeners(), newGetRules())
	return cmd
}

// ofKinds makes a command tell which kinds it has, if none or another one is named. What
// flags a kind has it does not know.
func ofKinds(cmd *cobra.Command) {
	cmd.FParseErrWhitelist.UnknownFlags = true
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var kinds []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				kinds = append(kinds, c.Name())
			}
		}
		return usageError{fmt.Errorf("there is nothing of the kind %q to %s, only: %s", args[0], cmd.Name(), strings.Join(kinds, ", "))}
	}
}

// kind is what usher get knows of one kind of thing. T is what usher tells of one of
// them, and R what a row of a table is about.
type kind[T, R any] struct {
	names    []string // of the command, the first is its own
	singular string   // in -o name
	use      string   // what the arguments are
	short    string
	long     string
	example  string
	columns  []column[R]
	rows     func(*T) []R
	// name tells a row apart from the other rows of its item, and is what -o name prints.
	name func(*R) string
	// id tells an item apart from all others.
	id func(*T) string
	// of is the Service that an item belongs to; nil: it belongs to none, and nobody asks
	// for a namespace.
	of func(*T) (namespace, name string)
	// ask returns what fits, and says on stderr what it has left out.
	ask func(context.Context, *getter, []string) ([]T, error)
	// single says that a name means one item, which is then printed without a list.
	single bool
	// empty says why there is nothing; nil or an empty text: as kubectl does.
	empty func(context.Context, *getter) string
	// flags are those of this kind only.
	flags func(*pflag.FlagSet)
	// complete is what arguments may be; nil: names of Services.
	complete cobra.CompletionFunc
}

// getter is one call of usher get.
type getter struct {
	admin        adminOptions
	namespace    string
	namespaceSet bool // by the command line
	all          bool
	selector     string
	output       string
	sortBy       string
	noHeaders    bool
	watch        bool
	watchEvents  bool
	tell         func(format string, args ...any) // on stderr

	fits map[string]bool // the Services that fit the selector, nil: all
}

// command is usher get of a kind.
func (k kind[T, R]) command() *cobra.Command {
	g := &getter{}
	cmd := &cobra.Command{
		Use: strings.TrimSpace(k.names[0] + " " + k.use), Aliases: k.names[1:], Short: k.short, Long: k.long + exitCodes, Example: k.example,
		RunE: func(cmd *cobra.Command, args []string) error {
			g.namespaceSet = cmd.Flags().Changed("namespace")
			g.tell = func(format string, args ...any) {
				fmt.Fprint(cmd.ErrOrStderr(), printableLines(fmt.Sprintf(format, args...)))
			}
			return k.run(cmd, g, args)
		},
	}
	f := cmd.Flags()
	if k.of != nil {
		f.StringVarP(&g.namespace, "namespace", "n", "default", "of what is named without")
		f.BoolVarP(&g.all, "all-namespaces", "A", false, "show those of all namespaces")
		alias(f, "all", "all-namespaces", nil)
		f.StringVarP(&g.selector, "selector", "l", "", "`selector` of labels of the Service, as in app=web,tier!=cache")
	}
	f.StringVarP(&g.output, "output", "o", "table", "`format`: "+strings.Join(outputs, ", "))
	f.StringVar(&g.sortBy, "sort-by", "", "a `column`, or a JSONPath of a field, as in .bytes_in")
	f.BoolVar(&g.noHeaders, "no-headers", false, "print a table without its headers")
	f.BoolVarP(&g.watch, "watch", "w", false, "go on, and print what changes, looking every second")
	f.BoolVar(&g.watchEvents, "output-watch-events", false, "with --watch, say of each change whether it was ADDED, MODIFIED or DELETED")
	if k.flags != nil {
		k.flags(f)
	}
	g.admin.define(f)
	k.completions(cmd, g)
	return cmd
}

// outputs are the formats of --output.
var outputs = []string{"table", "wide", "json", "yaml", "name", "jsonpath=TEMPLATE"}

func (k kind[T, R]) run(cmd *cobra.Command, g *getter, args []string) error {
	print, err := k.printer(g, len(args))
	if err != nil {
		return usageError{err}
	}
	if g.all && len(args) > 0 {
		return usageError{errors.New("give names, or --all, not both")}
	}
	if err := g.admin.check(); err != nil {
		return err
	}
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if g.watch {
		return k.follow(ctx, g, args, print, out)
	}
	found, err := k.list(ctx, g, args)
	if len(found) == 0 && (err != nil || print.table) {
		if err == nil {
			g.tell("%s\n", cmp.Or(k.why(ctx, g), g.nothing()))
		}
		return err
	}
	return errors.Join(print.items(out, found), err)
}

// why says why there is nothing, as far as that is known.
func (k kind[T, R]) why(ctx context.Context, g *getter) string {
	if k.empty == nil {
		return ""
	}
	return k.empty(ctx, g)
}

// nothing says that nothing was found, as kubectl does.
func (g *getter) nothing() string {
	if g.namespace == "" || g.anywhere() {
		return "No resources found"
	}
	return fmt.Sprintf("No resources found in %s namespace.", g.namespace)
}

// anywhere says whether no namespace is asked for.
func (g *getter) anywhere() bool { return g.all }

// list is what fits, whatever else was not found.
func (k kind[T, R]) list(ctx context.Context, g *getter, args []string) ([]T, error) {
	if err := g.choose(ctx); err != nil {
		return nil, err
	}
	found, err := k.ask(ctx, g, args)
	kept := found[:0]
	for i := range found {
		if k.of == nil || g.wants(k.of(&found[i])) {
			kept = append(kept, found[i])
		}
	}
	return kept, err
}

// choose finds the Services that the selector fits.
func (g *getter) choose(ctx context.Context) error {
	if g.selector == "" {
		return nil
	}
	selector, err := labels.Parse(g.selector)
	if err != nil {
		return usageError{fmt.Errorf("--selector=%s: %w", g.selector, err)}
	}
	var services []admin.Service
	if err := admin.Get(ctx, g.admin.socket, "/v1/services", g.scope(), &services); err != nil {
		return err
	}
	g.fits = map[string]bool{}
	for _, s := range services {
		if selector.Matches(labels.Set(s.Labels)) {
			g.fits[s.Namespace+"/"+s.Name] = true
		}
	}
	return nil
}

func (g *getter) wants(namespace, service string) bool {
	return g.fits == nil || g.fits[namespace+"/"+service]
}

// scope is the query for all that the namespace has.
func (g *getter) scope() url.Values {
	if g.anywhere() {
		return url.Values{}
	}
	return url.Values{"namespace": {g.namespace}}
}

// queries ask for what Services have: for those that are named, or all.
func (g *getter) queries(names []string) (list []url.Values, err error) {
	if len(names) == 0 {
		return []url.Values{g.scope()}, nil
	}
	for _, name := range names {
		q, err := serviceQuery(name, g.namespace)
		if err != nil {
			return nil, err
		}
		list = append(list, q)
	}
	return list, nil
}

// serviceName reads SERVICE or NAMESPACE/SERVICE.
func serviceName(text, otherwise string) (namespace, service string, err error) {
	namespace, service, ok := strings.Cut(text, "/")
	if !ok {
		namespace, service = otherwise, text
	}
	if namespace == "" || service == "" || strings.Contains(service, "/") {
		return "", "", usageError{fmt.Errorf("%q: want SERVICE or NAMESPACE/SERVICE", text)}
	}
	return namespace, service, nil
}

// serviceQuery asks for SERVICE or NAMESPACE/SERVICE.
func serviceQuery(text, otherwise string) (url.Values, error) {
	namespace, service, err := serviceName(text, otherwise)
	if err != nil {
		return nil, err
	}
	return url.Values{"namespace": {namespace}, "service": {service}}, nil
}

// ofServices asks at a path for what Services have.
func ofServices[T any](path string) func(context.Context, *getter, []string) ([]T, error) {
	return func(ctx context.Context, g *getter, names []string) (found []T, err error) {
		queries, err := g.queries(names)
		if err != nil {
			return nil, err
		}
		found = []T{}
		for _, q := range queries {
			var some []T
			fault := admin.Get(ctx, g.admin.socket, path, q, &some)
			found, err = append(found, some...), errors.Join(err, fault)
			if errors.Is(fault, admin.ErrUnreachable) {
				break
			}
		}
		return found, err
	}
}

// itself is a row about an item that has only this one.
func itself[T any](item *T) []T { return []T{*item} }
