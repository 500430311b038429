package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/cmd/usher/cli"
)

// writeConfigPage writes the page about the configuration file.
func writeConfigPage(path string, header doc.GenManHeader) error {
	return os.WriteFile(path, md2man.Render([]byte(configPage(header))), 0o644)
}

const configIntroduction = `
# NAME

usher-config - the configuration file of usher run

# SYNOPSIS

/etc/usher/config.yaml

# DESCRIPTION

The file is YAML, of the kind UsherConfiguration:

    apiVersion: usher-proxy.io/v1alpha1
    kind: UsherConfiguration
    kubeconfig: /etc/usher/kubeconfig
    retries: 2
    nodeportAddresses: [10.0.0.0/8, localhost]

Each key is a flag of **usher run** in lowerCamelCase, **\-\-node-name** is nodeName. A flag on
the command line wins over the file, and the file over the default. An unknown key, one that
is given twice, and a value that means nothing are errors, told with their line. **usher run
\-\-write-config-to=-** prints all keys with the values that are in effect.

`

func configPage(header doc.GenManHeader) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% %q %q %q %q %q\n%s", "USHER-CONFIG", "5", header.Date.Format("Jan 2006"), header.Source, header.Manual, configIntroduction)
	chapter := ""
	for _, k := range cli.Keys(nil) {
		if k.Chapter != chapter {
			chapter = k.Chapter
			fmt.Fprintf(&b, "# %s\n\n", strings.ToUpper(chapter))
		}
		nodeDefault(k.Flag)
		kind, usage := pflag.UnquoteUsage(k.Flag)
		if k.Flag.Value.Type() == "bool" {
			kind = "true or false"
		}
		fmt.Fprintf(&b, "**%s**: %s\n: %s%s\n\n", k.Name, kind, usage, byDefault(k.Flag))
	}
	b.WriteString("# SEE ALSO\n\n**usher-run(1)**, **usher-config-lint(1)**\n")
	return b.String()
}

// byDefault tells a default that means something, unless the flag's own words do.
func byDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "[]":
		return ""
	}
	return fmt.Sprintf(" (default: %s)", strings.Trim(f.DefValue, "[]"))
}
