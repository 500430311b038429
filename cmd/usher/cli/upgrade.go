package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/admin"
)

// newUpgrade is usher upgrade, and usher reload, which is the same.
func newUpgrade() *cobra.Command {
	var at adminOptions
	wait := 30 * time.Second
	cmd := &cobra.Command{
		Use:     "upgrade",
		Aliases: []string{"reload"},
		Short:   "Have the program and the configuration that are there now take over, losing nothing",
		Long: `upgrade asks the usher on this node to put the program at the path that it was
started from, which may be another one by now, in its own place, with the
configuration as it is now. That is how a new version takes over, and how a change of
the configuration takes effect: reload is another name for it, and so is SIGHUP.

First the program is tried: as a child it has to read the configuration and the state
that it is going to have, within five seconds. If it does not, nothing changes, and
what was wrong is told here, in usher's log and in its metrics.

Then it takes over within one process: connections, also those that look for an
endpoint or end in one direction, UDP sessions, listeners, session affinity, limits and
what is drained go on. Records keep their IDs. What is followed, as by usher observe,
is cut off and follows again.

The exit code is 0 once the new program serves, 1 if nothing has changed, 2 if no usher
can be asked, and 3 if the command line cannot be meant.`,
		Example: `  usher upgrade
  kill -HUP $(pidof usher)       # the same`,
		Args: noArgs,
	}
	at.define(cmd.Flags())
	cmd.Flags().DurationVar(&wait, "wait", wait, "for how `long` the new program may take until it answers")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := at.check(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), wait)
		defer cancel()
		before, after, err := requestUpgrade(ctx, at.socket)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "usher %s has taken over from %s; connections went on\n", orUnknown(after.Version), orUnknown(before.Version))
		return nil
	}
	return cmd
}

func orUnknown(version string) string {
	if version == "" {
		return "of unknown version"
	}
	return version
}

// requestUpgrade asks for an upgrade and waits until the new process answers.
func requestUpgrade(ctx context.Context, socket string) (before, after admin.Status, err error) {
	if err = admin.Get(ctx, socket, "/v1/status", nil, &before); err != nil {
		return before, after, err
	}
	began, seen := false, exists(before.PID)
	err = admin.Stream(ctx, socket, http.MethodPost, "/v1/upgrade", nil, func(line []byte) error {
		var told struct{ Step string }
		began = json.Unmarshal(line, &told) == nil && told.Step != ""
		return nil
	}, nil)
	if err != nil && !(began && errors.Is(err, admin.ErrUnreachable)) { // that it hangs up is how it ends well
		return before, after, err
	}
	for {
		err = getSoon(ctx, socket, &after)
		if err == nil && after.Upgrades > before.Upgrades {
			return before, after, nil
		}
		if seen && !exists(before.PID) {
			return before, after, errors.New("usher has ended in the middle of it: look into its log")
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("the old process still answers: look into usher's log")
			}
			return before, after, fmt.Errorf("the new program does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// getSoon asks a process that may just have ended: who comes then waits for the next one.
func getSoon(ctx context.Context, socket string, status *admin.Status) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return admin.Get(ctx, socket, "/v1/status", nil, status)
}

// exists says whether there is a process, which may be of another PID namespace.
func exists(pid int) bool { return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// upgradeOnHangup has usher upgraded by SIGHUP until ctx is done.
func upgradeOnHangup(ctx context.Context, p *proxier.Proxier, log logrus.FieldLogger) (stop func()) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-asked:
				log.Info("handover: asked for by SIGHUP")
				p.Upgrade(ctx, nil) // what is wrong is logged
			}
		}
	}()
	return func() {
		signal.Stop(asked)
		cancel()
		<-ended
	}
}
