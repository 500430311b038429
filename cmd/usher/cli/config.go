package cli

import "github.com/spf13/cobra"

func newConfig(own Policies) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Look at configuration without a cluster",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigLint(own))
	return cmd
}
