package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier/admin"
)

func newConfigShow(own Policies) *cobra.Command {
	var (
		output           string
		running, changed bool
	)
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the value of every setting, and where it comes from",
		Long: `show prints what usher run would be told by the same flags and the same configuration
file, one setting a line, and where it comes from: the default, FILE:LINE, a flag on the
command line (and the line of the file that it wins over), or another setting that it
follows from. It says what kube-proxy's names for settings have become.

With --running it is the usher that runs on this node which tells, at --admin-socket: its
settings are those of when it was started. No setting is a secret; credentials are in the
kubeconfig, of which the name is shown.` + exitCodes + "\n\n" + precedence,
		Example: `  usher config show --config=/etc/usher/usher.yaml --retries=5
  usher config show --config=/var/lib/kube-proxy/config.conf --changed
  usher config show --running -o json | jq '.[] | select(.origin == "file")'`,
		Args: noArgs,
	}
	o := newOptions(own)
	o.addBeside(cmd, func(f *pflag.FlagSet) {
		f.BoolVar(&running, "running", false, "ask the usher that runs on this node")
		f.BoolVar(&changed, "changed", false, "leave out what is the default")
		f.StringVarP(&output, "output", "o", "table", "`format`: table, json or yaml")
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		print, known := settingFormats[output]
		if !known {
			return usageError{fmt.Errorf("--output=%s: want table, json or yaml", output)}
		}
		all, err := o.shown(cmd, running)
		if err != nil {
			return err
		}
		if changed {
			all = slices.DeleteFunc(all, func(x admin.Setting) bool { return x.Origin == admin.OriginDefault })
		}
		return print(cmd.OutOrStdout(), all)
	}
	flagWords(cmd, map[string]cobra.CompletionFunc{"output": words("table", "json", "yaml")})
	return cmd
}

// shown are the settings of the usher that runs, or of one that these flags would start.
func (o *options) shown(cmd *cobra.Command, running bool) (all []admin.Setting, err error) {
	if !running {
		_, err := o.config()
		return o.origins(), err
	}
	var others []string
	o.flags.Visit(func(f *pflag.Flag) {
		if f.Name != "admin-socket" && f.Annotations[notOfRun] == nil {
			others = append(others, "--"+f.Name)
		}
	})
	if len(others) > 0 {
		return nil, usageError{errors.New("--running has the settings that usher was started with: leave out " + strings.Join(others, ", "))}
	}
	if err := o.admin.check(); err != nil {
		return nil, err
	}
	return all, admin.Get(cmd.Context(), o.admin.socket, "/v1/config", nil, &all)
}

var settingFormats = map[string]func(io.Writer, []admin.Setting) error{
	"table": settingTable,
	"json":  asJSON[[]admin.Setting],
	"yaml":  asYAML[[]admin.Setting],
}

func settingTable(w io.Writer, all []admin.Setting) error {
	rows := [][]string{{"SETTING", "VALUE", "ORIGIN"}}
	for _, x := range all {
		rows = append(rows, []string{x.Key, valueCell(x.Value), originCell(x)})
	}
	_, err := io.WriteString(w, new(table).lines(rows))
	return err
}

// valueCell is a value as a flag has it.
func valueCell(v any) string {
	switch list := v.(type) {
	case []string:
		return strings.Join(list, ",")
	case []any: // from JSON
		texts := make([]string, len(list))
		for i, item := range list {
			texts[i] = fmt.Sprint(item)
		}
		return strings.Join(texts, ",")
	}
	return fmt.Sprint(v)
}

// originCell says where a value comes from, and what the file calls it if that is not its
// name here.
func originCell(x admin.Setting) string {
	text := x.Origin
	switch x.Origin {
	case admin.OriginFile:
		text = place{file: x.File, line: x.Line}.position()
		if x.As != x.Key {
			text += ": " + x.As
		}
	case admin.OriginCommandLine:
		text = x.As
	case admin.OriginImplied:
		text = "follows from " + x.As
	}
	if x.Overrules != "" {
		text += ", wins over " + x.Overrules
	}
	return text
}
