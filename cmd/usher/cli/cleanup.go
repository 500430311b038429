package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/iptables"
	"github.com/usher-proxy/usher/proxier/kubeproxy"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/policyroute"
	"github.com/usher-proxy/usher/proxier/systemd"
	"github.com/usher-proxy/usher/proxier/transparent"
)

func newCleanup() *cobra.Command {
	var ofKubeProxy, force, unlessRestarting bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what a usher or a kube-proxy that did not stop in good order left in the kernel",
		Long: `cleanup removes usher's iptables chains and the jumps to them, its policy routes, and
its routes to Service addresses, in both address families. It leaves the rules of others alone, and running it twice does no harm.
Do not run it beside a running usher: that one would write its rules again.

With --kube-proxy it removes what kube-proxy has left instead, and nothing of usher:
its chains in the tables nat, filter and mangle of both iptables backends and both
families with the jumps to them, its nftables tables, and the interface kube-ipvs0.
The chains of the kubelet (KUBE-FIREWALL and others) stay. It refuses while
kube-proxy runs, which would write its rules again.

With --unless-restarting, for ExecStopPost= of a systemd unit, it does nothing if systemd
is about to start the unit again: after systemctl restart, or by itself after a crash.`,
		Example: `  usher cleanup
  usher cleanup --kube-proxy
  ExecStopPost=/usr/bin/usher cleanup --unless-restarting   # in a unit`,
		Args: noArgs,
	}
	cmd.Flags().BoolVar(&ofKubeProxy, "kube-proxy", false, "remove what kube-proxy has left")
	cmd.Flags().BoolVar(&force, "force", false, "with --kube-proxy: even while kube-proxy runs")
	cmd.Flags().BoolVar(&unlessRestarting, "unless-restarting", false, "in ExecStopPost= of a systemd unit: only if systemd does not start the unit again")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case ofKubeProxy && unlessRestarting:
			return usageError{errors.New("--unless-restarting does not go with --kube-proxy")}
		case ofKubeProxy:
			return cleanupKubeProxy(cmd, force)
		case force:
			return usageError{errors.New("--force goes with --kube-proxy")}
		}
		if unlessRestarting {
			restarting, err := isRestarting(cmd)
			if restarting || err != nil {
				return err
			}
		}
		return cleanupAll(cmd)
	}
	return cmd
}

// isRestarting says whether systemd starts the unit again whose ExecStopPost= this is.
func isRestarting(cmd *cobra.Command) (bool, error) {
	ended, err := systemd.HasEnded()
	if err != nil {
		return false, usageError{fmt.Errorf("--unless-restarting: %w", err)}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), askTime)
	defer cancel()
	unit, err := systemd.OwnUnit(ctx)
	if err != nil {
		return false, fmt.Errorf("nothing is removed: %w", err)
	}
	if !unit.Restarts(ended) {
		return false, nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "nothing is removed: systemd starts %s again\n", unit.Name)
	return true, nil
}

func cleanupAll(cmd *cobra.Command) error {
	var errs []error
	for _, family := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		errs = append(errs, cleanup(cmd, family))
	}
	if err := transparent.Remove(); err != nil {
		errs = append(errs, fmt.Errorf("remove policy routes: %w", err))
	}
	if err := policyroute.Remove(); err != nil {
		errs = append(errs, fmt.Errorf("remove the routes to Service addresses: %w", err))
	}
	return errors.Join(errs...)
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

func cleanupKubeProxy(cmd *cobra.Command, force bool) error {
	// What is being removed is not left half removed by a signal.
	ctx := context.WithoutCancel(cmd.Context())
	found := kubeproxy.Find(ctx)
	if found.Running != "" && !force {
		return fmt.Errorf("kube-proxy runs (%s) and would write its rules again: %s (or use --force)", found.Running, kubeproxy.Stop)
	}
	err := found.Remove(ctx, func(line string) { fmt.Fprintln(cmd.OutOrStdout(), observe.Printable(line)) })
	if err = errors.Join(found.Unseen, err); err == nil && !found.Any() {
		fmt.Fprintln(cmd.OutOrStdout(), "kube-proxy has left nothing")
	}
	return err
}
