package cli

import "github.com/spf13/cobra"

func newConfig(own Policies) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show configuration without a cluster",
		Long: `config is about what usher and Services are told to do:

  - validate judges one configuration file as usher run --config would, with the same
    other flags;
  - show tells the value of every setting, and where it comes from;
  - lint looks through many files of any kind: for annotations of Services, and for
    configuration files among them.

` + precedence,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigValidate(own), newConfigShow(own), newConfigLint(own))
	return cmd
}

// precedence is for helps.
const precedence = `A setting of usher run has the value that the command line gives it, else that of the
file which --config names, else the default. A kube-proxy name of a flag is the flag;
giving both is an error. --manifests on the command line also takes the place of a file's
kubeconfig and master, and the other way round. What an annotation of a Service says
then counts for this Service, in place of the setting.`
