package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroup is a part of the flags, with a title in the help.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

func newGroup(title string, define func(*pflag.FlagSet)) flagGroup {
	f := pflag.NewFlagSet(title, pflag.ContinueOnError)
	f.SortFlags = false
	define(f)
	return flagGroup{title, f}
}

// addTo defines the flags on cmd and groups them in its help.
func (s *settings) addTo(cmd *cobra.Command) {
	for _, g := range s.groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	cmd.Flags().SortFlags = false
	s.flags = cmd.Flags()
	cmd.SetUsageFunc(func(c *cobra.Command) error {
		fmt.Fprintf(c.OutOrStdout(), "Usage:\n  %s\n", c.UseLine())
		for _, g := range s.groups {
			if g.flags.HasAvailableFlags() {
				fmt.Fprintf(c.OutOrStdout(), "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(100))
			}
		}
		fmt.Fprintf(c.OutOrStdout(), "\nExamples:\n%s\n", c.Example)
		return nil
	})
}

// notOfRun is the annotation of a flag that usher run does not have.
const notOfRun = "not of usher run"

// addBeside defines the flags on a command that judges what usher run would do, after
// some that it has itself.
func (s *settings) addBeside(cmd *cobra.Command, define func(*pflag.FlagSet)) {
	own := newGroup("How it is told", define)
	own.flags.VisitAll(func(f *pflag.Flag) { f.Annotations = map[string][]string{notOfRun: {}} })
	s.groups = append([]flagGroup{own}, s.groups...)
	s.addTo(cmd)
	write := s.flags.Lookup("write-config-to")
	write.Value, write.Hidden = refusal("it is for usher run"), true
}

// aliasOf is the annotation of a flag that is another name of the one which it
// names.
const aliasOf = "alias of"

// alias gives a flag another name. The value is what the other name sets, if it
// has a form of its own; nil is the flag's own.
func alias(f *pflag.FlagSet, name, of string, value pflag.Value) *pflag.Flag {
	original := f.Lookup(of)
	if value == nil {
		value = original.Value
	}
	a := f.VarPF(otherName{value}, name, "", "the same as --"+of)
	a.DefValue = "" // the original tells it
	a.NoOptDefVal = original.NoOptDefVal
	a.Annotations = map[string][]string{aliasOf: {of}}
	return a
}

// otherName hides from the help what kind of value it is, whose zero would be
// told as a default.
type otherName struct{ pflag.Value }

// canonical is the name of the flag itself, of which f may be another name.
func canonical(f *pflag.Flag) string {
	if of := f.Annotations[aliasOf]; of != nil {
		return of[0]
	}
	return f.Name
}
