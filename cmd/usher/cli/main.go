package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/balancer"
	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

// The exit codes.
const (
	exitFailed      = 1
	exitUnreachable = 2 // no usher can be asked
	exitUsage       = 3
	exitNotFound    = 4
)

// usageError is a command line that cannot be meant.
type usageError struct{ error }

// Policies are balancer policies by the names that --balancer and the annotation
// usher-proxy.io/balancer may give. Each Service port gets some of its own.
type Policies map[string]func() balancer.Policy

// names are those of all policies, the built-in ones first.
func (own Policies) names() []string {
	return slices.Concat(balancer.Names(), slices.Sorted(maps.Keys(own)))
}

// Main is the command usher, with policies beside the built-in ones; nil: none. It
// returns the exit code.
func Main(own Policies) int { return run(os.Args[1:], own) }

func run(args []string, own Policies) int {
	// The first signal stops in good order, the second one at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()

	root := newRoot(own)
	root.SetArgs(calledAs(root, os.Args[0], args))
	command, err := root.ExecuteContextC(ctx)
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return 0 // done, or asked to stop before it had begun
	}
	fmt.Fprintf(os.Stderr, "usher: %s\n", complaint(err))
	if isUsage(err) {
		fmt.Fprintf(os.Stderr, "See '%s --help'.\n", command.CommandPath())
		return exitUsage
	}
	return exitCode(err)
}

// complaint is an error in one line.
func complaint(err error) string {
	return observe.Printable(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// Command is the command usher, for programs that write about it.
func Command(own Policies) *cobra.Command { return newRoot(own) }

func newRoot(own Policies) *cobra.Command {
	root := &cobra.Command{
		Use:   "usher",
		Short: "A userspace Service proxy for Kubernetes nodes",
		Long: `usher serves Kubernetes Services from user space: it picks a ready endpoint for
every connection, tries another one when that fails, and tells the whole story
of each connection.

Try "usher demo": it needs no cluster and no privileges.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRun(own), newGet(), newDescribe(), newObserve(), newTop(), newUI(), newExplain(), newProbe(), newTrace(), newStatus(),
		newDrain(), newUndrain(), newKill(), newUpgrade(), newRules(), newCheck(own), newConfig(own), newDemo(), newCleanup(), newVersion())
	return root
}

// exitCode tells what asking a running usher has failed of.
func exitCode(err error) int {
	var answer *admin.Error
	switch {
	case errors.Is(err, admin.ErrUnreachable):
		return exitUnreachable
	case errors.As(err, &answer) && answer.Status == http.StatusNotFound:
		return exitNotFound
	}
	return exitFailed
}

// isUsage also knows what cobra says of commands that do not exist.
func isUsage(err error) bool {
	return errors.As(err, &usageError{}) || strings.HasPrefix(err.Error(), "unknown command")
}

// noArgs refuses arguments that a command has no use for.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}
