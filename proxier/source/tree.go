package source

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Aliases let a few lines of YAML stand for a tree of any size, or one without
// an end. What they add is bounded, and so is the depth.
const (
	aliasedNodes = 100_000
	treeDepth    = 100
)

var (
	errTreeSize  = fmt.Errorf("too large: aliases (*name) add more than %d values", aliasedNodes)
	errTreeDepth = fmt.Errorf("nested deeper than %d levels", treeDepth)
	errMergeKey  = errors.New(`merge keys ("<<") are not supported: write the fields out`)
)

// checkSize returns an error if the tree under node is too large to be walked.
func checkSize(node *yaml.Node) error {
	budget := aliasedNodes
	return checkSizeWithin(node, 0, false, &budget)
}

func checkSizeWithin(node *yaml.Node, depth int, aliased bool, budget *int) error {
	if aliased {
		*budget--
	}
	if *budget < 0 {
		return errTreeSize
	}
	if depth > treeDepth {
		return errTreeDepth
	}
	if node.Kind == yaml.AliasNode {
		return checkSizeWithin(node.Alias, depth+1, true, budget)
	}
	for _, child := range node.Content {
		if err := checkSizeWithin(child, depth+1, aliased, budget); err != nil {
			return err
		}
	}
	return nil
}

// resolve follows an alias to what it stands for.
func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// child returns the value of a key in a mapping, nil if there is none.
func child(mapping *yaml.Node, key string) *yaml.Node {
	mapping = resolve(mapping)
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if resolve(mapping.Content[i]).Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// childText returns the text of a key's value, "" if it is not there or no
// scalar.
func childText(mapping *yaml.Node, key string) string {
	value := child(mapping, key)
	if value == nil || resolve(value).Kind != yaml.ScalarNode || resolve(value).ShortTag() == "!!null" {
		return ""
	}
	return resolve(value).Value
}

// plain turns a tree into what encoding/json can write. Dates stay text, as in
// JSON.
func plain(node *yaml.Node) (any, error) {
	node = resolve(node)
	switch node.Kind {
	case yaml.MappingNode:
		return plainMapping(node)
	case yaml.SequenceNode:
		list := make([]any, len(node.Content))
		for i, item := range node.Content {
			value, err := plain(item)
			if err != nil {
				return nil, err
			}
			list[i] = value
		}
		return list, nil
	}
	return plainScalar(node)
}

func plainMapping(node *yaml.Node) (any, error) {
	mapping := make(map[string]any, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		value, err := plain(node.Content[i+1])
		if err != nil {
			return nil, err
		}
		mapping[resolve(node.Content[i]).Value] = value
	}
	return mapping, nil
}

func plainScalar(node *yaml.Node) (any, error) {
	var value any
	switch node.ShortTag() {
	case "!!null", "!!bool", "!!int", "!!float":
		err := node.Decode(&value)
		return value, err
	}
	return node.Value, nil
}

// describe says what a value is, for people.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!int", "!!float":
		return "the number " + abridge(node.Value)
	case "!!bool":
		return abridge(node.Value)
	case "!!null":
		return "nothing"
	}
	return fmt.Sprintf("the text %q", abridge(node.Value))
}

// abridge keeps a value short enough for a message.
func abridge(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
