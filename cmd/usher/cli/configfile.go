package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/usher-proxy/usher/proxier"
)

// fileOptions say where the configuration file is, and where to write one.
type fileOptions struct {
	path    string
	writeTo string
	content []byte // of the file, once it was read
}

func (c *fileOptions) define(f *pflag.FlagSet) {
	f.StringVar(&c.path, "config", "", "`file` with settings: a UsherConfiguration, or a KubeProxyConfiguration as kubeadm writes it. "+
		"Flags on the command line win over it. When it changes usher ends with exit code 1, as kube-proxy does, to be started again")
	f.StringVar(&c.writeTo, "write-config-to", "", "write the settings in effect to this `file`, a UsherConfiguration, and exit; - is the standard output")
}

func (c *fileOptions) configure(*options, *proxier.Config) error { return nil }

// maxConfigBytes is far above any real file: a wrong path must not eat the
// node's memory.
const maxConfigBytes = 1 << 20

// The kinds of configuration file.
const (
	usherGroup     = "usher-proxy.io"
	usherVersion   = usherGroup + "/v1alpha1"
	usherKind      = "UsherConfiguration"
	kubeProxyGroup = "kubeproxy.config.k8s.io"
	kubeProxyKind  = "KubeProxyConfiguration"
)

// read takes the settings of the file.
func (c *fileOptions) read(s *settings) (err error) {
	if c.content == nil {
		if c.content, err = readConfig(c.path); err != nil {
			return fmt.Errorf("--config=%s: %w", c.path, err)
		}
	}
	root, err := parseConfig(c.content)
	if err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	version, kind := scalarOf(root, "apiVersion"), scalarOf(root, "kind")
	var all []setting
	switch {
	case version == usherVersion && kind == usherKind:
		all, err = usherSettings(c.path, root, s)
	case version == kubeProxyGroup+"/v1alpha1" && kind == kubeProxyKind:
		all, err = kubeProxySettings(c.path, root, c.content, s)
	case kind == "ConfigMap":
		return fmt.Errorf("%s: this is a ConfigMap: give the file that is in its data", c.path)
	default:
		return fmt.Errorf("%s: apiVersion %q, kind %q: want %s %s, or %s/v1alpha1 %s",
			c.path, version, kind, usherVersion, usherKind, kubeProxyGroup, kubeProxyKind)
	}
	return errors.Join(err, s.apply(all))
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(content) > maxConfigBytes {
		return nil, fmt.Errorf("larger than %d MiB: no configuration file", maxConfigBytes>>20)
	}
	return content, nil
}

// withoutPath removes from an error the path, which the message begins with.
func withoutPath(err error) error {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// parseConfig returns the mapping that is the file's only document.
func parseConfig(content []byte) (*yaml.Node, error) {
	var root *yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if isEmpty(&doc) {
			continue
		}
		if root != nil {
			return nil, fmt.Errorf("line %d: a second document: want one", doc.Line)
		}
		root = doc.Content[0]
	}
	switch {
	case root == nil:
		return nil, errors.New("it is empty")
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("line %d: want keys with values", root.Line)
	}
	return root, checkPlain(root)
}

func isEmpty(doc *yaml.Node) bool {
	return len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null"
}

// checkPlain refuses aliases, with which a few lines can stand for a tree of any
// size, and keys that are no text.
func checkPlain(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		return fmt.Errorf("line %d: aliases (*name) are not supported: write it out", n.Line)
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: want a word as a key", child.Line)
		}
		if err := checkPlain(child); err != nil {
			return err
		}
	}
	return nil
}

// scalarOf is the text of a key, "" if there is none.
func scalarOf(mapping *yaml.Node, key string) string {
	for k, v := range pairs(mapping) {
		if k.Value == key && v.Kind == yaml.ScalarNode {
			return v.Value
		}
	}
	return ""
}

// pairs are the keys and values of a mapping.
func pairs(mapping *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(k, v *yaml.Node) bool) {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if !yield(mapping.Content[i], mapping.Content[i+1]) {
				return
			}
		}
	}
}

// texts are the values of a list of scalars, or of one scalar.
func texts(n *yaml.Node) (values []string, list, ok bool) {
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}, false, n.ShortTag() != "!!null"
	}
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.ShortTag() == "!!null" {
			return nil, true, false
		}
		values = append(values, item.Value)
	}
	return values, true, n.Kind == yaml.SequenceNode
}
