package cli

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/proxier/admin"
	"github.com/usher-proxy/usher/proxier/observe"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Show, compare and repair what usher has in the kernel to capture traffic",
		Long: `rules is about what the usher on this node has in the kernel, so that traffic to Services
comes to it. usher get rules lists it as a table.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesPrint(), newRulesDiff(), newRulesRepair())
	return cmd
}

// errDifferent is for the exit code: everything else has been said.
var errDifferent = errors.New("the kernel is not as usher wants it; usher mends that by itself, at the latest at the next --sync-period, or at once by usher rules repair")

func newRulesPrint() *cobra.Command {
	return withExample("  usher rules print | grep 10.96.0.10", asking("print", "Print what usher wants to have in the kernel",
		`print prints what the usher on this node wants to have in the kernel: as iptables-save
prints it, or, with --capture=bind, as ip rule and ip route print it.`,
		func(cmd *cobra.Command, socket string) error {
			var wanted []admin.CapturedBy
			if err := admin.Get(cmd.Context(), socket, "/v1/rules", url.Values{}, &wanted); err != nil {
				return err
			}
			for _, w := range wanted {
				fmt.Fprintf(cmd.OutOrStdout(), "# %s\n%s", w.Family, printableLines(w.Text))
			}
			return nil
		}))
}

func newRulesDiff() *cobra.Command {
	return withExample("  usher rules diff || usher rules repair", asking("diff", "Compare what usher wants with what the kernel has",
		`diff prints what in the kernel is not as the usher on this node wants it, one line
each, and nothing if everything is. The exit code then is 1.`,
		func(cmd *cobra.Command, socket string) error {
			var found []admin.RuleDifference
			if err := admin.Get(cmd.Context(), socket, "/v1/rules/diff", url.Values{}, &found); err != nil {
				return err
			}
			printDifferences(cmd, "", found)
			if len(found) > 0 {
				return errDifferent
			}
			return nil
		}))
}

func newRulesRepair() *cobra.Command {
	return withExample("  usher rules repair", asking("repair", "Write what is missing in the kernel, and remove what is too much",
		`repair has the usher on this node compare everything with the kernel, and mend what
is not as it should be. It prints what that was. usher does the same by itself at every
--sync-period, and with iptables within a second of a change. Only root may ask for it.`,
		func(cmd *cobra.Command, socket string) error {
			var done admin.Repair
			if err := admin.Post(cmd.Context(), socket, "/v1/rules/repair", url.Values{}, &done); err != nil {
				return err
			}
			printDifferences(cmd, "repaired: ", done.Repaired)
			printDifferences(cmd, "left: ", done.Left)
			if len(done.Left) > 0 {
				return errors.New("some of it could not be repaired; the log of usher says why")
			}
			if len(done.Repaired) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "Everything is as it should be.")
			}
			return nil
		}))
}

func printDifferences(cmd *cobra.Command, what string, list []admin.RuleDifference) {
	for _, d := range list {
		fmt.Fprintf(cmd.OutOrStdout(), "%s%s: %s\n", what, d.Family, observe.Printable(d.Text))
	}
}

func withExample(example string, cmd *cobra.Command) *cobra.Command {
	cmd.Example = example
	return cmd
}

// asking is a command that asks the usher which runs on this node.
func asking(use, short, long string, do func(cmd *cobra.Command, socket string) error) *cobra.Command {
	var at adminOptions
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := at.check(); err != nil {
				return err
			}
			return do(cmd, at.socket)
		},
	}
	at.define(cmd.Flags())
	return cmd
}
