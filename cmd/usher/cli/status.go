package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// How much of its lists usher status tells in its one screen.
const (
	shownReasons   = 5
	shownAttention = 10
)

// The states of an usher that is well. Without the API server it serves on as before.
const (
	serving      = "serving"
	servingStale = "serving, but stale: "
)

// errNotServing and errDegraded are for the exit code: the screen has told what it is.
var (
	errNotServing = errors.New("usher does not serve yet")
	errDegraded   = errors.New("usher is degraded: see STATE")
)

// fullStatus is all that usher status tells.
type fullStatus struct {
	admin.Status
	State     string            `json:"state"`               // what is wrong, or serving
	Attention []admin.Attention `json:"attention,omitempty"` // none where usher does not tell it
}

func newStatus() *cobra.Command {
	var format string
	cmd := asking("status", "Tell how the usher that runs on this node is",
		`status tells in one screen whether the usher on this node serves, how it captures
traffic and why so, how current it is, how much there is of it, why connections ended in
the last five minutes, and what somebody should look at.

The exit code is 0 if all is well, 1 if usher is degraded (it does not serve yet, its
rules cannot be written, or clients miss something now), 2 if no usher can be asked, and
3 if the command line cannot be meant.`,
		func(cmd *cobra.Command, socket string) error {
			print, known := statusFormats[format]
			if !known {
				return usageError{fmt.Errorf("--output=%s: want table, json or yaml", format)}
			}
			s, err := statusAt(cmd.Context(), socket)
			if err != nil {
				return err
			}
			if err := print(cmd.OutOrStdout(), s); err != nil {
				return err
			}
			return s.fault()
		})
	cmd.Example = `  usher status
  usher status -o json | jq .attention`
	cmd.Flags().StringVarP(&format, "output", "o", "table", "`format`: table, json or yaml")
	flagWords(cmd, map[string]cobra.CompletionFunc{"output": words("table", "json", "yaml")})
	return cmd
}

// statusAt asks for all of it.
func statusAt(ctx context.Context, socket string) (s fullStatus, err error) {
	if err := admin.Get(ctx, socket, "/v1/status", nil, &s.Status); err != nil {
		return s, err
	}
	if _, err := (asker{ctx, socket}).get("/v1/attention", nil, &s.Attention); err != nil {
		return s, err
	}
	s.State = s.state()
	return s, nil
}

var statusFormats = map[string]func(io.Writer, fullStatus) error{
	"table": statusTable,
	"json":  asJSON[fullStatus],
	"yaml":  asYAML[fullStatus],
}

// state is what is wrong, the worst first.
func (s *fullStatus) state() string {
	missed := 0
	for _, a := range s.Attention {
		if a.Severity == admin.SeverityError {
			missed++
		}
	}
	switch {
	case !s.Ready:
		return "not serving yet"
	case s.Rules.Failing != "":
		return "degraded: rules cannot be written: " + s.Rules.Failing
	case missed > 0:
		return fmt.Sprintf("degraded: clients miss something now (%d)", missed)
	case s.LastState != nil && s.LastState.Served:
		return servingStale + "the last state, which was known " + seconds(s.StaleSeconds) + " ago"
	case s.StaleSeconds > 0:
		return servingStale + "what was known " + seconds(s.StaleSeconds) + " ago"
	}
	return serving
}

func (s *fullStatus) fault() error {
	switch {
	case !s.Ready:
		return errNotServing
	case s.State != serving && !strings.HasPrefix(s.State, servingStale):
		return errDegraded
	}
	return nil
}

func statusTable(w io.Writer, s fullStatus) error {
	var p page
	rows := [][2]string{
		{"STATE", s.State},
		{"VERSION", s.Version},
		{"NODE", s.Node},
	}
	if !s.Started.IsZero() {
		rows = append(rows, [2]string{"UP FOR", age(s.Started)})
	}
	rows = append(rows,
		[2]string{"CAPTURE", fmt.Sprintf("%s, %s", s.Capture, s.CaptureWhy)},
		[2]string{"FAMILIES", strings.Join(s.Families, ", ")})
	if s.Source != "" {
		rows = append(rows, [2]string{"OBJECTS", objectsOf(s.Status)})
	}
	if s.LastState != nil {
		rows = append(rows, [2]string{"LAST STATE", keeping(*s.LastState)})
	}
	if s.Source != "" || s.Rules != (admin.Rules{}) {
		rows = append(rows, [2]string{"RULES", writing(s.Rules)})
	}
	if s.Services > 0 {
		rows = append(rows, [2]string{"SERVICES", fmt.Sprint(s.Services)})
	}
	rows = append(rows,
		[2]string{"SERVICE PORTS", withMore(s.Ports, s.Draining, "gone, but with connections left")},
		[2]string{"CONNECTIONS", fmt.Sprint(s.Connections)},
		[2]string{"UDP SESSIONS", fmt.Sprint(s.UDPSessions)})
	if s.Files.Used > 0 {
		rows = append(rows, [2]string{"OPEN FILES", gauge(s.Files)})
	}
	if s.Ring.Size > 0 {
		rows = append(rows, [2]string{"RECORDS", fmt.Sprintf("%d of %d held; lost: %d by followers, %d by the log", s.Ring.Held, s.Ring.Size, s.Ring.Lost, s.Log.Dropped)})
	}
	p.WriteString(listing(rows))
	p.reasons(s.Status)
	if n := len(s.Attention); n > 0 {
		p.section(fmt.Sprintf("ATTENTION (%d)", n))
		p.rows(attentionRows(s.Attention[:min(n, shownAttention)]))
		if n > shownAttention {
			p.line("  and %d more, which usher status -o json tells", n-shownAttention)
		}
	}
	return p.printTo(w)
}

// reasons are why connections have ended of late.
func (p *page) reasons(s admin.Status) {
	if len(s.Recent) == 0 {
		return
	}
	p.section("ENDED IN THE LAST " + strings.ToUpper(seconds(s.RecentSeconds)))
	rows := [][]string{{"COUNT", "TROUBLE", "REASON", "CODE", "SIDE", "WHICH MEANS"}}
	for _, r := range s.Recent[:min(len(s.Recent), shownReasons)] {
		rows = append(rows, []string{fmt.Sprint(r.Count), fmt.Sprint(r.Trouble), r.Reason, r.Code, r.Side, r.Text})
	}
	p.rows(rows)
}

// objectsOf says where objects come from, and how current they are.
func objectsOf(s admin.Status) string {
	text := s.Source
	for _, w := range s.Watch {
		state := "heard of " + seconds(w.AgeSeconds) + " ago"
		if !w.Synced {
			state = "not listed yet"
		}
		text += fmt.Sprintf("; %s: %s", w.Resource, state)
	}
	return text
}

// keeping says how the file with the last state is.
func keeping(l admin.LastState) string {
	text := l.File
	if l.AsOf != nil {
		text += ", of " + age(*l.AsOf) + " ago"
	}
	switch {
	case l.Served:
		text += "; it is served"
	case l.AsOf == nil:
		text += ", not written yet"
	}
	if l.Failing != "" {
		text += "; failing: " + l.Failing
	}
	return text
}

func writing(r admin.Rules) string {
	text := "not written yet"
	if r.Written != nil {
		text = "written " + age(*r.Written) + " ago"
	}
	if r.Failing != "" {
		text += "; failing: " + r.Failing
	}
	if r.ForeignWrites > 0 {
		text += fmt.Sprintf("; mended changes of others: %d", r.ForeignWrites)
	}
	return text
}

func gauge(g admin.Gauge) string {
	if g.Limit <= 0 {
		return fmt.Sprint(g.Used)
	}
	return fmt.Sprintf("%d of %d (%d%%)", g.Used, g.Limit, g.Used*100/g.Limit)
}

func withMore(n, more int, what string) string {
	if more == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d, and %d %s", n, more, what)
}

// attentionRows are lines of a table, without headers.
func attentionRows(list []admin.Attention) (rows [][]string) {
	for _, a := range list {
		rows = append(rows, []string{a.Severity, about(a), a.Reason, a.Message})
	}
	return slices.Clip(rows)
}

// about is the object, as in Service shop/web:http/tcp.
func about(a admin.Attention) string {
	text := a.Name
	if a.Namespace != "" {
		text = a.Namespace + "/" + a.Name
	}
	if a.Port != "" {
		text += ":" + a.Port
	}
	return observe.Printable(a.Kind + " " + text)
}
