package cli

import (
	"errors"
	"strings"

	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"
	"k8s.io/kube-proxy/config/v1alpha1"
	sigsyaml "sigs.k8s.io/yaml"
)

// misfits are the fields of a file that is not quite a KubeProxyConfiguration which are
// wrong, an error, or unknown, a remark. strict and lenient is what kube-proxy's own decoder
// says of the whole. It does not tell lines, so each field is tried by itself.
func (s *settings) misfits(file string, root *yaml.Node, strict, lenient error) (map[string]bool, error) {
	fields := map[string]bool{}
	var errs []error
	for field, node := range leaves("", root) {
		at := place{file, node.Line, field}
		strict, lenient := decodeField(field, node)
		switch {
		case lenient != nil:
			errs = append(errs, at.wrong(": %s", decodeFault(lenient)))
		case strict != nil:
			s.remarks = append(s.remarks, remark{logrus.WarnLevel, at.wrong(": unknown field, which kube-proxy passes over too")})
		default:
			continue
		}
		fields[field] = true
	}
	switch {
	case lenient != nil && len(errs) == 0: // of no field alone
		errs = append(errs, place{file: file}.wrong("%s", decodeFault(lenient)))
	case len(fields) == 0: // keys that are there twice
		s.remark(logrus.WarnLevel, "%s is read all the same: %s", file, decodeFault(strict))
	}
	return fields, errors.Join(errs...)
}

// decodeField decodes a file that says nothing but this.
func decodeField(field string, value *yaml.Node) (strict, lenient error) {
	names := strings.Split(field, ".")
	for i := len(names) - 1; i >= 0; i-- {
		name := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: names[i]}
		value = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{name, value}}
	}
	text, err := yaml.Marshal(value)
	if err != nil {
		return err, err
	}
	return sigsyaml.UnmarshalStrict(text, &v1alpha1.KubeProxyConfiguration{}), sigsyaml.Unmarshal(text, &v1alpha1.KubeProxyConfiguration{})
}

// wantedByType are words for the Go types of kube-proxy's fields.
var wantedByType = map[string]string{
	"string": "a text", "bool": "true or false", "int32": "a whole number", "float32": "a number", "[]string": "a list of texts",
}

// decodeFault is what a decoder says, for somebody who knows YAML and not Go.
func decodeFault(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	text = strings.TrimPrefix(text, "error unmarshaling JSON: while decoding JSON: ")
	text = strings.TrimPrefix(text, "json: ")
	_, kind, typed := strings.Cut(text, " of type ")
	switch {
	case wantedByType[kind] != "":
		return "want " + wantedByType[kind]
	case typed && strings.Contains(kind, "."):
		return "want keys with values"
	case strings.HasPrefix(text, "time: "):
		return "want " + wanted["duration"]
	}
	return text
}
