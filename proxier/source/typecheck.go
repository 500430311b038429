package source

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// fault is something wrong at one place of a tree.
type fault struct {
	line    int // within the document
	field   string
	message string
}

// typecheck compares a tree with the Go type that it is to become, and returns
// all differences. Decoders tell only the first one, and no line.
func typecheck(node *yaml.Node, as reflect.Type) []fault {
	var c typechecker
	c.value(node, as, "")
	return c.faults
}

type typechecker struct{ faults []fault }

func (c *typechecker) fault(node *yaml.Node, path, format string, args ...any) {
	c.faults = append(c.faults, fault{line: node.Line, field: path, message: fmt.Sprintf(format, args...)})
}

// A type that decodes itself is asked (dates, quantities, int-or-string).
var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func (c *typechecker) value(node *yaml.Node, as reflect.Type, path string) {
	at := node // an alias is reported where it stands
	node = resolve(node)
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		return // as in JSON: the same as leaving it out
	}
	for as.Kind() == reflect.Pointer {
		as = as.Elem()
	}
	switch kind := as.Kind(); {
	case reflect.PointerTo(as).Implements(unmarshaler):
		c.decoded(at, node, as, path)
	case kind == reflect.Struct:
		c.structure(at, node, as, path)
	case kind == reflect.Map:
		c.mapping(at, node, as, path)
	case kind == reflect.Slice && as.Elem().Kind() != reflect.Uint8:
		c.list(at, node, as, path)
	default:
		c.scalar(at, node, as, path)
	}
}

func (c *typechecker) structure(at, node *yaml.Node, as reflect.Type, path string) {
	if node.Kind != yaml.MappingNode {
		c.fault(at, path, "must be a mapping, not %s", describe(node))
		return
	}
	fields := fieldsOf(as)
	c.pairs(node, path, func(key, value *yaml.Node) {
		inside := join(path, key.Value)
		if field, known := fields[key.Value]; known {
			c.value(value, field, inside)
			return
		}
		c.fault(key, inside, "unknown field%s", similar(fields, key.Value))
	})
}

func (c *typechecker) mapping(at, node *yaml.Node, as reflect.Type, path string) {
	if node.Kind != yaml.MappingNode {
		c.fault(at, path, "must be a mapping, not %s", describe(node))
		return
	}
	c.pairs(node, path, func(key, value *yaml.Node) {
		c.value(value, as.Elem(), path+"["+key.Value+"]")
	})
}

// pairs visits the keys of a mapping that are good, each one once.
func (c *typechecker) pairs(node *yaml.Node, path string, visit func(key, value *yaml.Node)) {
	first := make(map[string]*yaml.Node, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := resolve(node.Content[i])
		switch before := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			c.fault(key, path, "a key must be a text, not %s", describe(key))
		case key.ShortTag() == "!!merge":
			c.fault(key, path, "%v", errMergeKey)
		case before != nil:
			c.fault(key, join(path, key.Value), "given twice: remove one of them")
		default:
			first[key.Value] = key
			visit(key, node.Content[i+1])
		}
	}
}

func (c *typechecker) list(at, node *yaml.Node, as reflect.Type, path string) {
	if node.Kind != yaml.SequenceNode {
		c.fault(at, path, "must be a list, not %s", describe(node))
		return
	}
	for i, item := range node.Content {
		c.value(item, as.Elem(), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (c *typechecker) scalar(at, node *yaml.Node, as reflect.Type, path string) {
	tag := node.ShortTag()
	isNumber := tag == "!!int" || tag == "!!float"
	switch as.Kind() {
	case reflect.String, reflect.Slice:
		if node.Kind != yaml.ScalarNode {
			c.fault(at, path, "must be a text, not %s", describe(node))
		} else if isNumber || tag == "!!bool" {
			c.fault(at, path, "must be a text, not %s: put it in quotes", describe(node))
		}
	case reflect.Bool:
		if tag != "!!bool" {
			c.fault(at, path, "must be true or false, not %s", describe(node))
		}
	case reflect.Float32, reflect.Float64:
		if !isNumber {
			c.fault(at, path, "must be a number, not %s", describe(node))
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		c.integer(at, node, as, path)
	default:
		c.fault(at, path, "usher cannot read this field") // no type in use has such a field
	}
}

func (c *typechecker) integer(at, node *yaml.Node, as reflect.Type, path string) {
	if node.ShortTag() != "!!int" {
		c.fault(at, path, "must be a whole number, not %s", describe(node))
		return
	}
	if err := node.Decode(reflect.New(as).Interface()); err != nil {
		c.fault(at, path, "the number %s is out of range", abridge(node.Value))
	}
}

// decoded lets the type itself judge.
func (c *typechecker) decoded(at, node *yaml.Node, as reflect.Type, path string) {
	value, err := plain(node)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(value); err == nil {
			err = json.Unmarshal(text, reflect.New(as).Interface())
		}
	}
	if err != nil {
		c.fault(at, path, "%s does not fit: %v", describe(node), err)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// similar names the field that was probably meant.
func similar(fields map[string]reflect.Type, key string) string {
	for name := range fields {
		if strings.EqualFold(name, key) {
			return fmt.Sprintf(": did you mean %q?", name)
		}
	}
	return ""
}

var fieldCache sync.Map // of reflect.Type to map[string]reflect.Type

// fieldsOf returns a struct's fields by their JSON names.
func fieldsOf(as reflect.Type) map[string]reflect.Type {
	if cached, ok := fieldCache.Load(as); ok {
		return cached.(map[string]reflect.Type)
	}
	fields := make(map[string]reflect.Type, as.NumField())
	for i := range as.NumField() {
		field := as.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "" && field.Anonymous:
			for inner, t := range fieldsOf(field.Type) {
				fields[inner] = t
			}
		case name != "" && name != "-":
			fields[name] = field.Type
		}
	}
	fieldCache.Store(as, fields)
	return fields
}
