package cli

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/policyroute"
	"github.com/usher-proxy/usher/proxier/preflight"
	"github.com/usher-proxy/usher/proxier/source"
)

// errNotReady says that a check has failed. The report tells which.
var errNotReady = errors.New("usher cannot do its work here as it is: see the lines that begin with FAIL")

func newCheck(own Policies) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Tell whether usher run would work on this node, and what to do if not",
		Long: `check looks at everything that usher run needs on this node, with the same flags and
the same configuration file, and prints one line for each: OK, WARN (it works, but
not as well or not for all) or FAIL (it does not start, or serves nobody), and what
to do about it. It changes nothing: what it tries it takes away again.

What an ordinary user cannot know is a WARN that says so: run it as usher will run.

The exit code is 0, or 1 if there is a FAIL, and 3 if the command line cannot be
meant.`,
		Example: `  usher check --kubeconfig /etc/usher/kubeconfig
  usher check --config=/etc/usher/usher.yaml -o json
  usher check --manifests ./services/ --capture=bind`,
		Args: noArgs,
	}
	o := newOptions(own)
	o.addBeside(cmd, func(f *pflag.FlagSet) {
		f.StringVarP(&output, "output", "o", "text", "text or json")
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		print, known := checkFormats[output]
		if !known {
			return usageError{fmt.Errorf("--output=%s: want text or json", output)}
		}
		cfg, err := o.config()
		if err != nil {
			return err
		}
		check := preflight.Config{Proxier: cfg, Manifests: o.source.manifests, ServiceProxyName: o.source.serviceProxyName, LogFile: o.seen.logFile, PolicyRouting: policyroute.Probe}
		if len(check.Manifests) == 0 {
			check.REST, check.RESTError = source.RESTConfig(o.source.kubeconfig, o.source.master)
		}
		results := preflight.Run(cmd.Context(), check)
		if err := print(cmd.OutOrStdout(), results); err != nil {
			return err
		}
		if preflight.Failed(results) {
			return errNotReady
		}
		return nil
	}
	return cmd
}

// checkFormats are those of --output.
var checkFormats = map[string]func(io.Writer, []preflight.Result) error{
	"text": checkLines,
	"json": asJSON[[]preflight.Result],
}

// checkLines has a line for each result, which ends with what to do.
func checkLines(w io.Writer, results []preflight.Result) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range results {
		text := r.Text
		if r.Do != "" {
			text += ". To do: " + r.Do
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.Level, r.Name, observe.Printable(text))
	}
	return t.Flush()
}
