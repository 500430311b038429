package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/observe"
)

// topOptions are one call of usher top.
type topOptions struct {
	admin    adminOptions
	interval time.Duration
	once     bool
	format   string
	color    string
}

// leastInterval is so that nobody keeps usher busy with answering.
const leastInterval = 200 * time.Millisecond

func newTop() *cobra.Command {
	o := &topOptions{}
	cmd := &cobra.Command{
		Use:   "top [services | endpoints | clients]",
		Short: "Show live on the terminal which Services, endpoints or clients are busy",
		Long: `top fills the terminal with what the usher on this node does, and asks it again every
second. Rates of services are differences between two answers; those of endpoints and
clients are means over as long as usher remembers.

Keys: q quits, s sorts by the next column and S by the one before, / filters by a part
of the name (Enter keeps the filter, Esc clears it), Tab goes to the next of services,
endpoints and clients, the arrows, PgUp, PgDn, Home and End scroll.

CONN/S are connections and UDP sessions that begin, TRBL/S those that end so that a client
may have missed something, and P50 and P99 how long it took to connect to an endpoint,
in milliseconds, for connections that ended within the last minute.

--once needs no terminal: it prints one table after one interval.

The exit code is 0, or 2 if no usher can be asked, 3 if the command line cannot be
meant, and 1 if something else is wrong.`,
		Example: `  usher top
  usher top clients
  usher top --once -o json | jq '.services[] | select(.trouble_per_second > 0)'`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nothingMore(cmd, args, typed)
			}
			return beginning(slices.Clone(topViews), typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.DurationVar(&o.interval, "interval", time.Second, "how often usher is asked, at most every 200ms")
	f.BoolVar(&o.once, "once", false, "print one table after one interval")
	f.StringVarP(&o.format, "output", "o", "table", "with --once: `format`, table or json")
	f.StringVar(&o.color, "color", "auto", "`when`: auto (unless NO_COLOR is set), always or never")
	o.admin.define(f)
	flagWords(cmd, map[string]cobra.CompletionFunc{"output": words("table", "json"), "color": words("auto", "always", "never"), "interval": words("1s", "2s", "5s")})
	return cmd
}

// view is that of the command line.
func (o *topOptions) view(args []string) (int, error) {
	name := topViews[0]
	if len(args) > 0 {
		name = args[0]
	}
	other := map[string]string{"svc": "services", "service": "services", "ep": "endpoints", "endpoint": "endpoints", "backend": "endpoints", "client": "clients"}
	view := slices.Index(topViews, cmp.Or(other[name], name))
	switch {
	case len(args) > 1:
		return 0, usageError{fmt.Errorf("unexpected argument %q", args[1])}
	case view < 0:
		return 0, usageError{fmt.Errorf("%q: want services, endpoints or clients", name)}
	case o.interval < leastInterval:
		return 0, usageError{fmt.Errorf("--interval=%s: want at least %s", o.interval, leastInterval)}
	case o.format != "table" && o.format != "json":
		return 0, usageError{fmt.Errorf("--output=%s: want table or json", o.format)}
	case o.format == "json" && !o.once:
		return 0, usageError{errors.New("--output=json is for --once")}
	case !slices.Contains([]string{"auto", "always", "never"}, o.color):
		return 0, usageError{fmt.Errorf("--color=%s: want auto, always or never", o.color)}
	}
	return view, o.admin.check()
}

func (o *topOptions) run(cmd *cobra.Command, args []string) error {
	view, err := o.view(args)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	in, isFile := cmd.InOrStdin().(*os.File)
	if !o.once && (!isFile || !isTerminal(in) || !isTerminal(out)) {
		return usageError{errors.New("top needs a terminal; --once does not")}
	}
	p := newTopPoller(o.admin.socket, o.interval, view)
	first, err := p.ask(cmd.Context())
	if err != nil {
		return err
	}
	t := newTopModel(view)
	t.take(first)
	if o.once {
		return o.printOnce(cmd.Context(), p, t, out)
	}
	paint := painter(o.color == "always" || o.color == "auto" && os.Getenv("NO_COLOR") == "")
	return live(cmd.Context(), p, t, paint, in, out.(*os.File))
}

// printOnce prints what one interval shows.
func (o *topOptions) printOnce(ctx context.Context, p *topPoller, t *topModel, out io.Writer) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(o.interval):
	}
	now, err := p.ask(ctx)
	if err != nil {
		return err
	}
	t.take(now)
	if o.format == "json" {
		return asJSON(out, map[string]any{"time": now.traffic.Time, "seconds": t.seconds, topViews[t.view]: t.board().document()})
	}
	_, err = io.WriteString(out, t.board().table())
	return err
}

// live shows the screen until somebody quits. The terminal is as it was before when live
// returns, or panics.
func live(ctx context.Context, p *topPoller, t *topModel, paint painter, in, out *os.File) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)

	screen, err := openScreen(in, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, screen.close()) }()

	keys, readerEnd := screen.keys(ctx)
	answers, pollerEnd := p.poll(ctx)
	defer func() {
		stop()
		<-readerEnd
		<-pollerEnd
	}()
	for {
		if err := screen.draw(t, paint); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
		case s := <-answers:
			t.take(s)
		case k := <-keys:
			if t.press(k) {
				return nil
			}
			p.show(t.view)
		case err := <-readerEnd:
			return err
		case err := <-pollerEnd:
			return err
		}
	}
}

// guarded runs a goroutine, and returns what closes at its end. A panic is an error of its
// owner, who puts the terminal in order first.
func guarded(do func() error) (ended <-chan error) {
	c := make(chan error, 1)
	go func() {
		defer close(c)
		defer func() {
			if r := recover(); r != nil {
				c <- fmt.Errorf("internal error: %s", observe.Printable(fmt.Sprint(r)))
			}
		}()
		if err := do(); err != nil {
			c <- err
		}
	}()
	return c
}
