package cli

import (
	"github.com/spf13/cobra"

	"github.com/usher-proxy/usher/cmd/usher/cli/demo"
)

func newDemo() *cobra.Command {
	var once bool
	var format string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve a few Services on this machine, without cluster or privileges",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			level := "info"
			if once {
				level = "error" // the round tells what it saw
			}
			log, err := newLogger(out, level, format)
			if err != nil {
				return err
			}
			return demo.Run(cmd.Context(), demo.Options{Out: out, Log: log, Version: version, Once: once})
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "do the round itself, print what it saw, and exit 0 only if all of it happened")
	cmd.Flags().StringVar(&format, "log-format", "text", "format of the connection records: text or json")
	return cmd
}
