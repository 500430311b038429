package source

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decode reads the objects of a file's content. It returns everything that is
// good, and a problem for everything that is not; it never gives up on the
// whole.
func decode(file string, content []byte, ours filter) ([]object, []problem) {
	d := decoder{file: file, ours: ours, unread: make(map[string]bool)}
	for _, doc := range documents(content) {
		d.document(doc)
	}
	return d.objects, d.problems
}

// decoder collects what a file holds.
type decoder struct {
	file     string
	ours     filter
	unread   map[string]bool // other kinds, by apiVersion and kind
	objects  []object
	problems []problem
}

// item is one object in its YAML form.
type item struct {
	node   *yaml.Node
	before int    // lines of the file before its document
	path   string // of the object in its document: "items[3]" in a List
	name   string // "Service default/web"
}

func (d *decoder) document(doc document) {
	node, err := parse(doc.text)
	if err == nil && node != nil {
		err = checkSize(node)
	}
	if err != nil {
		line, message := syntaxError(doc.text, err)
		d.problems = append(d.problems, problem{position: position{d.file, doc.line - 1 + line}, message: message})
		return
	}
	if node != nil {
		d.item(item{node: node, before: doc.line - 1})
	}
}

// item decodes one object of any kind.
func (d *decoder) item(it item) {
	it.node = resolve(it.node)
	if it.node.Kind != yaml.MappingNode {
		d.fault(it, fault{line: it.node.Line, message: "must be a Kubernetes object, not " + describe(it.node)})
		return
	}
	apiVersion, kind := childText(it.node, "apiVersion"), childText(it.node, "kind")
	it.name = objectName(kind, it.node)
	switch {
	case kind == "":
		d.fault(it, fault{field: "kind", message: `missing, such as "Service"`})
		return
	case apiVersion == "":
		d.fault(it, fault{field: "apiVersion", message: `missing, such as "v1"`})
		return
	case kind == "List" && apiVersion == "v1":
		d.list(it)
		return
	}
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	for _, k := range kinds {
		if k.name == kind && k.group == group {
			if want := k.apiVersion(); apiVersion != want {
				d.fault(it, fault{field: "apiVersion", message: fmt.Sprintf("usher reads %s %s, not %s", want, kind, abridge(apiVersion))})
				return
			}
			k.read(d, it)
			return
		}
	}
	if other := apiVersion + " " + kind; !d.unread[other] { // a dump of a cluster has thousands
		d.unread[other] = true
		d.add(it, fault{field: "kind", message: "not read by usher, nor are others of this kind in the file"}, unused)
	}
}

// list decodes the items of a List as objects of their own.
func (d *decoder) list(it item) {
	items := child(it.node, "items")
	if items == nil || resolve(items).Kind != yaml.SequenceNode {
		d.fault(it, fault{field: "items", message: "must be a list of objects"})
		return
	}
	for i, node := range resolve(items).Content {
		d.item(item{node: node, before: it.before, path: join(it.path, fmt.Sprintf("items[%d]", i))})
	}
}

// objectName is for messages: the object may be unfit for anything else.
func objectName(kind string, node *yaml.Node) string {
	meta := child(node, "metadata")
	if kind == "" || meta == nil || childText(meta, "name") == "" {
		return abridge(kind)
	}
	name := childText(meta, "name")
	if namespace := childText(meta, "namespace"); namespace != "" {
		name = namespace + "/" + name
	}
	return abridge(kind + " " + name)
}

// into decodes an item strictly. Without a fault it returns true.
func (d *decoder) into(it item, object any) bool {
	if faults := typecheck(it.node, reflect.TypeOf(object)); len(faults) > 0 {
		d.fault(it, faults...)
		return false
	}
	tree, err := plain(it.node)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(tree); err == nil {
			err = json.Unmarshal(text, object)
		}
	}
	if err != nil { // typecheck has overlooked something
		d.fault(it, fault{line: it.node.Line, message: err.Error()})
	}
	return err == nil
}

// fault adds faults that keep the item from being served.
func (d *decoder) fault(it item, faults ...fault) {
	for _, f := range faults {
		d.add(it, f, broken)
	}
}

func (d *decoder) add(it item, f fault, s severity) {
	if f.line == 0 {
		f.line = lineOf(it.node, f.field)
	}
	field := join(it.path, f.field)
	if f.field == "" {
		field = it.path
	}
	d.problems = append(d.problems, problem{
		position: position{d.file, it.before + f.line}, object: it.name, field: field, message: f.message, severity: s,
	})
}
