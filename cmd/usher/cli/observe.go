package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// observation is one call of usher observe.
type observation struct {
	admin     adminOptions
	follow    bool
	last      int
	since     string
	service   string
	namespace string
	pod       string
	client    string
	reasons   []string
	side      string
	errors    bool
	format    string
	color     string

	stdout io.Writer
	out    *bufio.Writer                    // to stdout, flushed whenever usher has nothing more to say for now
	tell   func(format string, args ...any) // on stderr
	// show gets a flow, and the line that it comes from.
	show func(io.Writer, *admin.Flow, []byte) error
	// read reads from a line what show needs to know.
	read func(line []byte, f *admin.Flow) error

	seen  recently
	until time.Time // the end of the last flow that was shown
}

// defaultLast is how many flows are shown that have ended before.
const defaultLast = 20

func newObserve() *cobra.Command {
	o := &observation{}
	cmd := &cobra.Command{
		Use:   "observe",
		Short: "Show the connections that end, and why, as they do",
		Long: `observe shows a line for each connection and UDP session that has ended: who talked to
whom, for how long and how much, and why it ended. It begins with the last ones that
usher remembers, and goes on with -f as they end. Filters are usher's own, so that
only what is wanted is sent; all that are given have to fit.

A connection in which the client may have missed something is red, one that usher
ended by itself magenta.

With -f it waits for usher if that is restarted, and gives way to it on processors that
both want (nice 10). If this reader is too slow usher does not wait: what was lost is
counted on stderr.

The exit code is 0, or 2 if no usher can be asked, 3 if the command line cannot be
meant, and 1 if something else is wrong.`,
		Example: `  usher observe -f --errors
  usher observe -f -s shop/web --client 10.0.0.0/24
  usher observe --since 10m --reason backend_refused --reason connect_timeout -o wide
  usher observe --last 100 -o json | jq -r .msg`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.stdout = cmd.OutOrStdout()
			o.out = bufio.NewWriterSize(o.stdout, 1<<16)
			o.tell = func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "usher: %s\n", observe.Printable(fmt.Sprintf(format, args...)))
			}
			return o.run(cmd.Context(), cmd.Flags().Changed("last"))
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on, and show them as they end")
	f.IntVar(&o.last, "last", defaultLast, "how many of those before to show first; with --since: all, unless this is given")
	f.StringVar(&o.since, "since", "", "only those that have ended since then: how long ago, as in 10m, or a `time` in RFC 3339")
	f.StringVarP(&o.service, "service", "s", "", "only those of the Service `[NAMESPACE/]NAME`")
	alias(f, "to-service", "service", nil)
	f.StringVarP(&o.namespace, "namespace", "n", "", "only those of Services of this namespace (default all)")
	f.StringVar(&o.pod, "pod", "", "only those that an endpoint of the Pod `[NAMESPACE/]NAME` has had or was tried for")
	f.StringVar(&o.client, "client", "", "only those of the client's `address or CIDR`")
	alias(f, "from-ip", "client", nil)
	f.StringSliceVar(&o.reasons, "reason", nil, "only those that ended for one of these `reasons`")
	f.StringVar(&o.side, "side", "", "only those that this `side` has ended: client, backend, proxy or none")
	f.BoolVar(&o.errors, "errors", false, "only those in which the client may have missed something")
	f.StringVarP(&o.format, "output", "o", "compact", "`format`: compact, wide, dict or json")
	f.StringVar(&o.color, "color", "auto", "`when`: auto (on a terminal, unless NO_COLOR is set), always or never")
	o.admin.define(f)
	flagWords(cmd, map[string]cobra.CompletionFunc{
		"reason": completeReasons, "side": words("client", "backend", "proxy", "none"), "output": words("compact", "wide", "dict", "json"),
		"color": words("auto", "always", "never"), "last": nothingMore, "since": nothingMore, "from-ip": nothingMore,
	})
	return cmd
}

func (o *observation) run(ctx context.Context, lastGiven bool) error {
	q, err := o.query(lastGiven)
	if err != nil {
		return err
	}
	if err := o.choose(); err != nil {
		return err
	}
	if err := o.admin.check(); err != nil {
		return err
	}
	if o.follow {
		err = o.followOn(ctx, q)
	} else {
		if err = o.stream(ctx, q); err == nil && o.until.IsZero() && o.last > 0 {
			o.tell("no connection that fits has ended, as far as it remembers")
		}
	}
	if ended(ctx, err) {
		return nil
	}
	return err
}

// ended says whether that is a good end: somebody has asked for it, or reads no more.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// query is what usher is asked for.
func (o *observation) query(lastGiven bool) (url.Values, error) {
	q := url.Values{}
	for name, value := range map[string]string{
		"namespace": o.namespace, "service": o.service, "pod": o.pod, "client": o.client, "side": o.side, "since": o.since,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(o.reasons) > 0 {
		q["reason"] = o.reasons
	}
	if o.errors {
		q.Set("errors", "true")
	}
	if o.follow {
		q.Set("follow", "true")
	}
	if err := checkFilter(q); err != nil {
		return nil, err
	}
	if o.last < 0 {
		return nil, usageError{fmt.Errorf("--last=%d: want a number that is not negative", o.last)}
	}
	if o.since != "" && !lastGiven {
		o.last = observe.DefaultRingSize
	}
	q.Set("last", strconv.Itoa(o.last))
	return q, nil
}

// checkFilter says before usher is asked what it would not understand.
func checkFilter(q url.Values) error {
	if _, err := observe.ParseFilter(q, time.Now()); err != nil {
		return usageError{fmt.Errorf("--%w", err)}
	}
	return nil
}

// choose finds how flows are to be shown.
func (o *observation) choose() error {
	var paint painter
	switch o.color {
	case "always":
		paint = true
	case "never":
	case "auto":
		paint = painter(isTerminal(o.stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
	default:
		return usageError{fmt.Errorf("--color=%s: want auto, always or never", o.color)}
	}
	o.read = func(line []byte, f *admin.Flow) error { return json.Unmarshal(line, f) }
	switch o.format {
	case "compact":
		o.show = paint.compact
	case "wide":
		o.show = paint.wide
	case "dict":
		o.show = paint.dict
	case "json":
		o.read = readHead
		o.show = func(w io.Writer, _ *admin.Flow, line []byte) error {
			_, err := fmt.Fprintf(w, "%s\n", observe.EscapeJSON(line))
			return err
		}
	default:
		return usageError{fmt.Errorf("--output=%s: want compact, wide, dict or json", o.format)}
	}
	return nil
}

// isTerminal says whether somebody sits at the other end of a stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// stream shows what usher sends, until it ends that.
func (o *observation) stream(ctx context.Context, q url.Values) error {
	return cmp.Or(admin.Stream(ctx, o.admin.socket, http.MethodGet, "/v1/flows", q, o.line, o.out.Flush), o.out.Flush())
}

// readHead reads what tells a flow from others, and no more: the line is printed as it is.
func readHead(line []byte, f *admin.Flow) error {
	var head struct {
		ID         string    `json:"id"`
		Start      time.Time `json:"start"`
		DurationMs float64   `json:"duration_ms"`
		Lost       uint64    `json:"lost"`
	}
	err := json.Unmarshal(line, &head)
	f.ID, f.Start, f.DurationMs, f.Lost = head.ID, head.Start, head.DurationMs, head.Lost
	return err
}

// line shows one.
func (o *observation) line(line []byte) error {
	var f admin.Flow
	if err := o.read(line, &f); err != nil {
		return fmt.Errorf("a flow of usher: %w", err)
	}
	if f.Lost > 0 {
		o.tell("%d flows were lost here, as they came faster than they were read", f.Lost)
	}
	if f.ID == "" || !o.seen.add(f.ID) {
		return nil
	}
	if end := f.End(); end.After(o.until) {
		o.until = end
	}
	return o.show(o.out, &f, line)
}

// The pauses before usher is asked again.
var (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// followOn asks again whenever a stream has ended, as when usher is restarted, after
// longer and longer pauses, and goes on where it was.
func (o *observation) followOn(ctx context.Context, q url.Values) error {
	if err := o.there(ctx); err != nil {
		return err // nothing of it has been seen yet
	}
	giveWay()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := o.stream(ctx, q)
		var answer *admin.Error
		if ended(ctx, err) || errors.As(err, &answer) || err != nil && !errors.Is(err, admin.ErrUnreachable) {
			return err
		}
		o.tell("usher has ended the stream, as it does when it stops; waiting for it")
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		for waited := false; !waited || o.there(ctx) != nil; waited = true {
			if waited {
				pause = min(2*pause, lastPause)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
		}
		o.tell("usher is back")
		q.Set("last", strconv.Itoa(observe.DefaultRingSize)) // of what has ended meanwhile
		if !o.until.IsZero() {
			q.Set("since", o.until.Add(-time.Millisecond).UTC().Format(time.RFC3339Nano))
		}
	}
}

// there asks whether a usher answers.
func (o *observation) there(ctx context.Context) error {
	return admin.Get(ctx, o.admin.socket, "/v1/status", nil, new(admin.Status))
}

// recently remembers some of the newest IDs, so that none is shown twice.
type recently struct {
	known map[string]bool
	ring  [4096]string
	next  int
}

// add returns false if it was there.
func (r *recently) add(id string) bool {
	if r.known == nil {
		r.known = map[string]bool{}
	}
	if r.known[id] {
		return false
	}
	delete(r.known, r.ring[r.next])
	r.known[id], r.ring[r.next] = true, id
	r.next = (r.next + 1) % len(r.ring)
	return true
}
