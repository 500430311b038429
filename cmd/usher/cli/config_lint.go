package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/usher-proxy/usher/proxier/annotation"
	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

func newConfigLint(own Policies) *cobra.Command {
	var policies []string
	cmd := &cobra.Command{
		Use:   "lint FILE|FOLDER|- ...",
		Short: "Tell what is wrong in manifests and configuration files",
		Long: `lint reads manifests (YAML or JSON, several documents in a file, Lists; the
*.yaml, *.yml and *.json of a folder, but not of folders in it) and tells what is
wrong with Services, EndpointSlices, Endpoints and Nodes, and with the annotations
usher-proxy.io/ of Services. Objects of other kinds are passed over, and a Service
without clusterIP is good: an API server allocates one. In a file of the kind
UsherConfiguration or KubeProxyConfiguration it tells the errors that usher config
validate finds.
- is the standard input.

Each line is FILE:LINE, the object, and what is wrong. The exit code is 0 if nothing
is, 1 if something is, and 3 if the command line cannot be meant.`,
		Example: `  usher config lint ./services/ usher.yaml
  kustomize build . | usher config lint -
  usher config lint --policy=by-tenant tenants.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("nothing to look at: give files or folders, or - for the standard input")}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&policies, "policy", nil, "`name` that the annotation balancer may have besides those of usher's own policies; repeatable")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l := lint{own: own, in: cmd.InOrStdin(), out: cmd.OutOrStdout(), policies: slices.Concat(own.names(), policies)}
		return l.run(args)
	}
	return cmd
}

// lint is one call of usher config lint.
type lint struct {
	in       io.Reader
	out      io.Writer
	own      Policies
	policies []string

	services, problems int
}

func (l *lint) run(paths []string) error {
	var manifests []source.File
	files, findings := l.read(paths)
	for _, f := range files {
		if isConfig(f.Content) {
			l.config(f)
		} else {
			manifests = append(manifests, f)
		}
	}
	for _, f := range append(findings, source.Lint(manifests, l.service)...) {
		l.tell(f.String())
	}
	looked := fmt.Sprintf("in %s with %s", number(len(files), "file"), number(l.services, "Service"))
	if l.problems > 0 {
		return fmt.Errorf("%s %s", number(l.problems, "problem"), looked)
	}
	_, err := fmt.Fprintf(l.out, "no problems %s\n", looked)
	return err
}

// read returns the files of all paths, each once.
func (l *lint) read(paths []string) (files []source.File, findings []source.Finding) {
	seen := map[string]bool{}
	for _, path := range paths {
		if path != "-" {
			path = filepath.Clean(path)
		}
		some, faults := l.readPath(path)
		findings = append(findings, faults...)
		for _, f := range some {
			if !seen[f.Name] {
				files = append(files, f)
			}
			seen[f.Name] = true
		}
	}
	return files, findings
}

const stdin = "standard input"

func (l *lint) readPath(path string) ([]source.File, []source.Finding) {
	if path != "-" {
		return source.ReadFiles(path)
	}
	content, err := readAtMost(l.in, 32<<20) // as large as a file may be
	if err != nil {
		return nil, []source.Finding{{File: stdin, Message: err.Error()}}
	}
	return []source.File{{Name: stdin, Content: content}}, nil
}

// isConfig says whether a file is, or is meant to be, one for --config.
func isConfig(content []byte) bool {
	var is struct{ Kind string }
	if err := yaml.NewDecoder(bytes.NewReader(content)).Decode(&is); err != nil {
		return false
	}
	return is.Kind == usherKind || is.Kind == kubeProxyKind
}

// config tells the errors that usher config validate finds in a configuration file.
func (l *lint) config(f source.File) {
	o := newOptions(l.own)
	o.addTo(&cobra.Command{})
	o.file.path, o.file.content = f.Name, f.Content
	for _, found := range o.judge() {
		if found.Level == levelError {
			if found.File == "" { // about settings together
				found.File = f.Name
			}
			l.tell(found.String())
		}
	}
}

// service judges the annotations of a Service.
func (l *lint) service(said map[string]string, tell func(key, message string)) {
	l.services++
	_, faults := annotation.Parse(said, annotation.Defaults(), l.policies)
	for _, f := range faults {
		tell(f.Key, f.Why)
	}
}

func (l *lint) tell(problem string) {
	l.problems++
	fmt.Fprintln(l.out, observe.Printable(problem))
}

// number is 1 file, or 2 files.
func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
