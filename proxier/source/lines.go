package source

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// lineOf returns the line, within its document, of the field with the given
// path ("spec.ports[0].port"), or of what would contain it.
func lineOf(node *yaml.Node, path string) int {
	line := node.Line
	for _, step := range steps(path) {
		node = resolve(node)
		var next *yaml.Node
		if index, err := strconv.Atoi(step); err == nil && node.Kind == yaml.SequenceNode {
			if index < len(node.Content) {
				next = node.Content[index]
				line = next.Line
			}
		} else if key := keyOf(node, step); key != nil {
			next = child(node, step)
			line = key.Line
		}
		if next == nil {
			return line
		}
		node = next
	}
	return line
}

// keyOf returns the key itself of a mapping, nil if it is not there.
func keyOf(mapping *yaml.Node, key string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if resolve(mapping.Content[i]).Value == key {
			return mapping.Content[i]
		}
	}
	return nil
}

// steps splits a path as field.Path writes it:
// "metadata.labels[a.b/c]" has the steps metadata, labels and a.b/c.
func steps(path string) []string {
	var all []string
	for path != "" {
		var step string
		if inside, found := strings.CutPrefix(path, "["); found {
			step, path, _ = strings.Cut(inside, "]")
		} else {
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			step, path = path[:end], path[end:]
		}
		path = strings.TrimPrefix(path, ".")
		if step != "" {
			all = append(all, step)
		}
	}
	return all
}
