package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"syscall"

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
		"Flags on the command line win over it. When it changes usher reads it again, as by usher reload")
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

// read takes the settings of the file. Its error says that there are none; what is
// wrong with some of them is noted, beside all others.
func (c *fileOptions) read(s *settings) (err error) {
	if c.content == nil {
		if c.content, err = readConfig(c.path); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: be root, or who may read it", err)
			}
			return fileError{place{file: c.path}, err.Error()}
		}
	}
	root, err := parseConfig(c.path, c.content)
	if err != nil {
		return err
	}
	version, kind := scalarOf(root, "apiVersion"), scalarOf(root, "kind")
	var all []setting
	at := place{file: c.path, line: root.Line}
	switch {
	case version == usherVersion && kind == usherKind:
		all, err = usherSettings(c.path, root, s)
	case version == kubeProxyGroup+"/v1alpha1" && kind == kubeProxyKind:
		all, err = kubeProxySettings(c.path, root, c.content, s)
	case kind == "ConfigMap":
		return at.wrong("this is a ConfigMap: give the file that is in its data")
	default:
		return at.wrong("apiVersion %q, kind %q: want %s %s, or %s/v1alpha1 %s",
			version, kind, usherVersion, usherKind, kubeProxyGroup, kubeProxyKind)
	}
	s.faults = append(s.faults, err, s.apply(all))
	return nil
}

// readConfig reads a configuration file. It has to be a regular one, as it is read again
// to see whether it has changed.
func readConfig(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe may have no writer
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case info.IsDir():
		return nil, errors.New("is a directory: give the file in it")
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file: write the settings to one")
	}
	return readAtMost(f, maxConfigBytes)
}

// readAtMost reads everything, which must be no more than so many bytes.
func readAtMost(r io.Reader, most int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case int64(len(content)) > most:
		return nil, fmt.Errorf("is larger than %d MiB", most>>20)
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
func parseConfig(file string, content []byte) (*yaml.Node, error) {
	if err := checkText(file, content); err != nil {
		return nil, err
	}
	var root *yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, syntaxError(file, content, err)
		}
		if isEmpty(&doc) {
			continue
		}
		if root != nil {
			return nil, place{file: file, line: doc.Line}.wrong("a second document: want one")
		}
		root = doc.Content[0]
	}
	switch {
	case root == nil:
		return nil, place{file: file}.wrong("it is empty: want apiVersion: %s, kind: %s, and settings; usher run --write-config-to=- prints all", usherVersion, usherKind)
	case root.Kind != yaml.MappingNode:
		return nil, place{file: file, line: root.Line}.wrong("want keys with values")
	}
	return root, checkPlain(file, root)
}

func isEmpty(doc *yaml.Node) bool {
	return len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null"
}

// checkPlain refuses aliases, with which a few lines can stand for a tree of any
// size, tags, which no value has a use for, and keys that are no text.
func checkPlain(file string, n *yaml.Node) error {
	at := place{file: file, line: n.Line}
	switch {
	case n.Kind == yaml.AliasNode:
		return at.wrong("aliases (*name) are not supported: write it out")
	case n.Style&yaml.TaggedStyle != 0:
		return at.wrong("tags (%s) are not supported: leave it out", n.Tag)
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind != yaml.ScalarNode {
			return place{file: file, line: child.Line}.wrong("want a word as a key")
		}
		if err := checkPlain(file, child); err != nil {
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
