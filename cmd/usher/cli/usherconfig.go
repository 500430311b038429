package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/proxier/annotation"
)

// usherSettings reads usher's own kind of configuration file, in which each key
// is the name of a flag. Nothing unknown is accepted: a key with a typing error
// would be a setting that does not take effect.
func usherSettings(path string, root *yaml.Node, s *settings) (all []setting, err error) {
	var errs []error
	keys := s.keys()
	seen := map[string]int{}
	for k, v := range pairs(root) {
		at := place{path, k.Line, k.Value}
		flag, known := keys[k.Value]
		values, list, ok := texts(v)
		switch {
		case seen[k.Value] > 0:
			errs = append(errs, at.wrong(": given before, in line %d: remove one of them", seen[k.Value]))
		case k.Value == "apiVersion" || k.Value == "kind":
		case !known:
			errs = append(errs, fileError{at, fmt.Sprintf("unknown key %q%s", k.Value, s.suggestion(k.Value))})
		case !ok && v.Kind == yaml.ScalarNode:
			errs = append(errs, at.wrong(": there is no value; leave the key out for the default"))
		case !ok:
			errs = append(errs, at.wrong(": want a value, or a list of values"))
		default:
			all = append(all, setting{flag: flag, values: values, list: list, place: at})
		}
		seen[k.Value] = k.Line
	}
	return all, errors.Join(errs...)
}

// lowerCamelCase is the key of a flag: node-name is nodeName.
func lowerCamelCase(flag string) string {
	words := strings.Split(flag, "-")
	for i, word := range words[1:] {
		words[i+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}

// isKey says whether a flag has a key in the file: all but other names of flags,
// those that are there for kube-proxy's sake, those about the file itself, and what
// only another command has.
func isKey(f *pflag.Flag) bool {
	return !f.Hidden && f.Annotations[notOfRun] == nil && f.Name == canonical(f) && f.Name != "config" && f.Name != "write-config-to" && f.Name != "help"
}

// keys are the names of flags by their keys.
func (s *settings) keys() map[string]string {
	keys := map[string]string{}
	s.flags.VisitAll(func(f *pflag.Flag) {
		if isKey(f) {
			keys[lowerCamelCase(f.Name)] = f.Name
		}
	})
	return keys
}

// Key is one of a UsherConfiguration.
type Key struct {
	Name    string
	Chapter string // of usher run --help
	Flag    *pflag.Flag
}

// Keys are all there are, in the order of the help. Their flags have the defaults.
func Keys(own Policies) (all []Key) {
	for _, g := range newOptions(own).groups {
		g.flags.VisitAll(func(f *pflag.Flag) {
			if isKey(f) {
				all = append(all, Key{lowerCamelCase(f.Name), g.title, f})
			}
		})
	}
	return all
}

// suggestion says which key may be meant by an unknown one, or by another name of
// its flag.
func (s *settings) suggestion(unknown string) string {
	var names []string
	keys := map[string]string{} // by those names, in lower case
	s.flags.VisitAll(func(f *pflag.Flag) {
		if of := s.flags.Lookup(canonical(f)); isKey(of) {
			name := strings.ToLower(lowerCamelCase(f.Name))
			names, keys[name] = append(names, name), lowerCamelCase(of.Name)
		}
	})
	nearest, found := annotation.Nearest(strings.ToLower(unknown), names)
	if !found {
		return ""
	}
	return fmt.Sprintf(": do you mean %s?", keys[nearest])
}

// effective is the value of every key.
func (s *settings) effective() map[string]any {
	all := map[string]any{"apiVersion": usherVersion, "kind": usherKind}
	s.flags.VisitAll(func(f *pflag.Flag) {
		if isKey(f) {
			all[lowerCamelCase(f.Name)] = valueOf(f)
		}
	})
	return all
}

// valueOf is a flag's value as YAML and JSON have it.
func valueOf(f *pflag.Flag) any {
	text := f.Value.String()
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return append([]string{}, list.GetSlice()...) // [], not null
	}
	switch f.Value.Type() {
	case "bool":
		if v, err := strconv.ParseBool(text); err == nil {
			return v
		}
	case "int":
		if v, err := strconv.Atoi(text); err == nil {
			return v
		}
	case "float32": // as 64 bits: 0.3 stays 0.3
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			return v
		}
	}
	return text
}

// writeTo writes the effective configuration to a file, or to out for "-".
func (s *settings) writeTo(file string, out io.Writer) error {
	text, err := s.yaml()
	if err != nil {
		return err
	}
	if file == "-" {
		_, err = io.WriteString(out, text)
	} else {
		err = os.WriteFile(file, []byte(text), 0o644)
	}
	if err != nil {
		return fmt.Errorf("--write-config-to=%s: %w", file, withoutPath(err))
	}
	return nil
}

// yaml is the effective configuration in the order of the help.
func (s *settings) yaml() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Every key is a flag of usher run; see its help.\napiVersion: %s\nkind: %s\n", usherVersion, usherKind)
	var err error
	for _, g := range s.groups {
		title := "\n# " + g.title + "\n"
		g.flags.VisitAll(func(f *pflag.Flag) {
			if !isKey(f) || err != nil {
				return
			}
			var line []byte
			if line, err = sigsyaml.Marshal(map[string]any{lowerCamelCase(f.Name): valueOf(f)}); err == nil {
				b.WriteString(title)
				b.Write(line)
				title = ""
			}
		})
	}
	return b.String(), err
}
