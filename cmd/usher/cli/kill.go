package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
)

func newKill() *cobra.Command { return changing("kill", "End something at once", newKillConnection()) }

// killOptions say which connections are ended, and how.
type killOptions struct {
	backend, pod, client, service, namespace string
	older                                    time.Duration
	all, yes, dryRun                         bool
	admin                                    adminOptions
	terminal                                 func() bool // somebody can be asked
}

func newKillConnection() *cobra.Command {
	k := &killOptions{terminal: func() bool { return isTerminal(os.Stdin) }}
	cmd := &cobra.Command{
		Use:     "connection ID...",
		Aliases: []string{"connections", "conn"},
		Short:   "End connections at once, with a reset to both sides",
		Long: `connection ends TCP connections by their IDs, or all that fit everything that the flags
say. Both sides get a reset, and the record says admin_killed. On a terminal it shows
what would be ended and asks first; elsewhere it takes --yes. Sessions of UDP have no
end that either side could be told of, and are not ended.

Only root may do it, and the log tells who did. The exit code is 0 if nothing that was
meant is left, 1 if something has not ended yet or the answer was no, 2 if no usher can
be asked, 3 if the command line cannot be meant, and 4 if there was no such connection.`,
		Example: `  usher kill connection 6911b3a0-42
  usher kill connection --backend 10.244.1.7:8080 --older 1h
  usher kill connection --service shop/api --dry-run`,
		RunE: k.run,
	}
	f := cmd.Flags()
	f.StringVar(&k.backend, "backend", "", "to this endpoint: `IP:PORT` or IP")
	f.StringVar(&k.pod, "pod", "", "to the endpoints of this `POD` or NAMESPACE/POD")
	f.StringVar(&k.client, "client", "", "of clients in this `CIDR`, or with this address")
	f.StringVar(&k.service, "service", "", "of this `SERVICE` or NAMESPACE/SERVICE")
	f.StringVarP(&k.namespace, "namespace", "n", "default", "of a pod or Service that is named without")
	f.DurationVar(&k.older, "older", 0, "that are older, as in 1h")
	f.BoolVar(&k.all, "all", false, "all connections of this node's usher")
	f.BoolVar(&k.yes, "yes", false, "do not ask")
	f.BoolVar(&k.dryRun, "dry-run", false, "only tell which would be ended")
	k.admin.define(f)
	cmd.ValidArgsFunction = completeConnections
	flagWords(cmd, map[string]cobra.CompletionFunc{"backend": completeEndpoints})
	return cmd
}

func (k *killOptions) query(ids []string) (url.Values, error) {
	q := url.Values{}
	if len(ids) > 0 {
		q["id"] = ids
	}
	if k.backend != "" {
		b, err := endpointQuery("backend", k.backend, k.namespace)
		if err != nil || b.Get("backend") == "" {
			return nil, usageError{fmt.Errorf("--backend=%s: want IP:PORT or IP", k.backend)}
		}
		q.Set("backend", k.backend)
	}
	for name, value := range map[string]string{"pod": k.pod, "service": k.service} {
		if value != "" {
			namespace, own, err := serviceName(value, k.namespace)
			if err != nil {
				return nil, usageError{fmt.Errorf("--%s=%s: want NAME or NAMESPACE/NAME", name, value)}
			}
			q.Set(name, namespace+"/"+own)
		}
	}
	if k.client != "" {
		q.Set("client", k.client)
	}
	if k.older < 0 {
		return nil, usageError{fmt.Errorf("--older=%s: want more than 0", k.older)}
	} else if k.older > 0 {
		q.Set("older", k.older.String())
	}
	switch {
	case k.all && len(q) > 0:
		return nil, usageError{errors.New("choose connections, or give --all, not both")}
	case k.all:
		q.Set("all", "true")
	case len(q) == 0:
		return nil, usageError{errors.New("which connections? Give IDs, --backend, --pod, --client, --service or --older; or --all")}
	}
	return q, nil
}

func (k *killOptions) run(cmd *cobra.Command, ids []string) error {
	q, err := k.query(ids)
	if err != nil {
		return err
	}
	if err := k.admin.check(); err != nil {
		return err
	}
	if k.dryRun || !k.yes {
		if !k.dryRun && !k.terminal() {
			return usageError{errors.New("nobody can be asked: give --yes, or --dry-run")}
		}
		would, err := k.post(cmd, q, true)
		if err != nil {
			return err
		}
		n := len(would.Killed) + would.More
		if err := printKilled(cmd.OutOrStdout(), would, "would be killed"); err != nil || n == 0 || k.dryRun {
			return errors.Join(err, noneOf(n))
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Kill %s? [y/N] ", counted(n, "connection"))
		answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return errors.New("nothing was done")
		}
	}
	done, err := k.post(cmd, q, false)
	if err != nil {
		return err
	}
	if err := printKilled(cmd.OutOrStdout(), done, "killed"); err != nil {
		return err
	}
	if len(done.Ending) > 0 {
		return fmt.Errorf("%s not ended yet", counted(len(done.Ending), "connection"))
	}
	return noneOf(len(done.Killed) + done.More)
}

// noneOf is the error of nothing found.
func noneOf(n int) error {
	if n == 0 {
		return &admin.Error{Status: 404, Message: "there is no such connection (any more)"}
	}
	return nil
}

func (k *killOptions) post(cmd *cobra.Command, q url.Values, dry bool) (done admin.Killed, err error) {
	if dry {
		q.Set("dry-run", "true")
	} else {
		q.Del("dry-run")
	}
	return done, asUsage(admin.Post(cmd.Context(), k.admin.socket, "/v1/kill", q, &done))
}

// printKilled has a line for each connection.
func printKilled(w io.Writer, done admin.Killed, killed string) error {
	rows := [][]string{{"ID", "SERVICE", "CLIENT", "ENDPOINT", "POD", "AGE", "RESULT"}}
	for _, list := range []struct {
		of     []admin.KilledConnection
		result string
	}{{done.Killed, killed}, {done.Ending, "not ended yet"}, {done.Gone, "gone"}} {
		for _, c := range list.of {
			result, service, age := list.result, "", ""
			if c.Reason != "" {
				result = "ended by itself: " + c.Reason
			}
			if c.Service != "" {
				service = c.Namespace + "/" + c.Service
				age = seconds(c.AgeSeconds)
			}
			rows = append(rows, []string{c.ID, service, c.Client, c.Endpoint, c.Pod, age, result})
		}
	}
	text := ""
	if len(rows) > 1 {
		text = new(table).lines(rows)
	}
	if done.More > 0 {
		text += fmt.Sprintf("and %d more\n", done.More)
	}
	_, err := io.WriteString(w, text)
	return err
}
