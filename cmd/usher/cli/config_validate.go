package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newConfigValidate(own Policies) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "validate FILE|-",
		Short: "Tell what is wrong in a configuration file, as usher run would",
		Long: `validate reads a configuration file, a UsherConfiguration or a KubeProxyConfiguration,
exactly as usher run --config=FILE does with the same other flags, and prints everything
that is wrong, each with its line. It starts nothing, asks no API server and opens no other
file: what only the node can tell is told by usher check. - is the standard input.

A warning is a setting that has no effect; usher run starts all the same.

The exit code is 0 if the configuration is good, 1 if it is not or cannot be read, and 3
if the command line cannot be meant.

` + precedence,
		Example: `  usher config validate /etc/usher/usher.yaml
  usher config validate --config=config.conf --hostname-override=node-1 -o json
  usher run --retries=5 --write-config-to=- | usher config validate -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("unexpected argument %q: give one file", args[1])}
			}
			return nil
		},
	}
	o := newOptions(own)
	o.addBeside(cmd, func(f *pflag.FlagSet) {
		f.StringVarP(&output, "output", "o", "text", "text or json")
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		print, known := findingFormats[output]
		if !known {
			return usageError{fmt.Errorf("--output=%s: want text or json", output)}
		}
		if err := o.file.choose(args, cmd.InOrStdin()); err != nil {
			return err
		}
		found := o.judge()
		if err := print(cmd.OutOrStdout(), found); err != nil {
			return err
		}
		if n := errorsIn(found); n > 0 {
			return fmt.Errorf("%s: usher run would not start", number(n, "problem"))
		}
		return nil
	}
	flagWords(cmd, map[string]cobra.CompletionFunc{"output": words("text", "json")})
	return cmd
}

// choose takes the file that the arguments name for that of --config.
func (c *fileOptions) choose(args []string, in io.Reader) (err error) {
	switch {
	case len(args) == 0 && c.path == "":
		return usageError{errors.New("nothing to look at: give a file, or - for the standard input")}
	case len(args) == 0:
		return nil
	case c.path != "":
		return usageError{fmt.Errorf("%s and --config=%s: give one file", args[0], c.path)}
	case args[0] == "":
		return usageError{errors.New("the name of the file is empty")}
	}
	if c.path = args[0]; c.path != "-" {
		return nil
	}
	c.path = stdin
	if c.content, err = readAtMost(in, maxConfigBytes); err != nil {
		return fileError{place{file: stdin}, err.Error()}
	}
	return nil
}

// CheckConfiguration says whether a usher that were started now with these arguments would
// accept its configuration. args are those of the process without its name, os.Args[1:], and
// begin with the command run; the file that --config names is read anew. own are the policies
// of Main. The error is everything that is wrong, a line each, with FILE:LINE if it is in the
// file. It starts, asks and writes nothing, and may be called from any goroutine.
func CheckConfiguration(args []string, own Policies) error {
	if len(args) == 0 || args[0] != "run" {
		return fmt.Errorf("%q is not the command run, which alone has a configuration", strings.Join(args, " "))
	}
	cmd, o := &cobra.Command{}, newOptions(own)
	o.addTo(cmd)
	if err := cmd.ParseFlags(args[1:]); err != nil {
		return err
	}
	if err := noArgs(cmd, cmd.Flags().Args()); err != nil {
		return err
	}
	_, err := o.config()
	return err
}
