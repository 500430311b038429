package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/transparent"
)

func newCleanup() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what a usher that did not stop in good order left in the kernel",
		Long: `cleanup removes usher's iptables chains and the jumps to them, and its policy
routes, in both address families. It leaves the rules of others alone, and running it twice does no harm.
Do not run it beside a running usher: that one would write its rules again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var errs []error
			for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
				errs = append(errs, cleanup(cmd, family))
			}
			if err := transparent.Remove(); err != nil {
				errs = append(errs, fmt.Errorf("remove policy routes: %w", err))
			}
			return errors.Join(errs...)
		},
	}
}

func cleanup(cmd *cobra.Command, family iptables.Family) error {
	table, err := iptables.New(family)
	if errors.Is(err, iptables.ErrUnavailable) && !errors.Is(err, fs.ErrPermission) {
		fmt.Fprintf(cmd.ErrOrStderr(), "nothing to clean: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	if err := table.Cleanup(cmd.Context()); err != nil {
		return fmt.Errorf("%s: %w", family, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: clean\n", family)
	return nil
}
