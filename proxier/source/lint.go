package source

import (
	"cmp"
	"slices"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/labels"
)

// File is a file of manifests.
type File struct {
	Name    string
	Content []byte
}

// Finding is something that is wrong in a file.
type Finding struct {
	File    string
	Line    int    // from 1; 0: the file as a whole
	Object  string // "Service default/web", "" if it is not known
	Field   string // "spec.ports[0].port", "" for the object as a whole
	Message string
}

// String is FILE:LINE: OBJECT: FIELD: MESSAGE, without what is not known.
func (f Finding) String() string {
	return problem{position: position{f.File, f.Line}, object: f.Object, field: f.Field, message: f.Message}.String()
}

// ReadFiles returns the files that a path stands for, itself or those in a folder,
// as NewManifests reads them. What cannot be read is a Finding.
func ReadFiles(path string) (files []File, findings []Finding) {
	names, err := manifestFiles(path)
	switch {
	case err != nil:
		findings = append(findings, Finding{File: path, Message: withoutPath(err).Error()})
	case len(names) == 0:
		findings = append(findings, Finding{File: path, Message: "has no *.yaml, *.yml or *.json in it"})
	}
	for _, name := range names {
		content, _, err := readFile(name)
		if err != nil {
			findings = append(findings, Finding{File: name, Message: err.Error()})
			continue
		}
		files = append(files, File{name, content})
	}
	return files, findings
}

// Lint returns what is wrong with the objects in files, in the order of the files
// and their lines. It sees what NewManifests sees, as one who sends them to an API
// server does: a clusterIP may be missing, which is allocated there, a Service may
// name any proxy, and objects of other kinds are none of its business.
//
// annotations is called with those of each Service. It tells what is wrong with
// them, by key.
func Lint(files []File, annotations func(said map[string]string, tell func(key, message string))) []Finding {
	l := linter{judge: annotations, rank: make(map[string]int)}
	ours := filter{services: labels.Everything(), slices: ordinaryServices().slices, unallocated: true}
	var all []contents
	for i, f := range files {
		objects, problems := decode(f.Name, f.Content, ours)
		all = append(all, contents{file: f.Name, objects: objects})
		l.rank[f.Name] = i
		l.add(problems)
		l.annotations(f)
	}
	l.add(merge(all, nil).problems)
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(l.rank[a.File], l.rank[b.File]), cmp.Compare(a.Line, b.Line))
	})
	return l.findings
}

type linter struct {
	judge    func(said map[string]string, tell func(key, message string))
	rank     map[string]int // of files
	findings []Finding
}

func (l *linter) add(problems []problem) {
	for _, p := range problems {
		if p.severity == broken {
			l.findings = append(l.findings, Finding{p.file, p.line, p.object, p.field, p.message})
		}
	}
}

// annotations judges those of all Services in a file, also of a Service that has
// other faults.
func (l *linter) annotations(f File) {
	for _, doc := range documents(f.Content) {
		root, err := parse(doc.text)
		if err != nil || root == nil || checkSize(root) != nil {
			continue // decode has told it
		}
		eachService(root, func(service *yaml.Node) {
			said, lines := annotationsOf(service)
			l.judge(said, func(key, message string) {
				l.findings = append(l.findings, Finding{
					File: f.Name, Line: doc.line - 1 + lines[key], Object: objectName("Service", service), Message: message,
				})
			})
		})
	}
}

// eachService visits the Services in a tree, also those in Lists. Its depth is
// bounded by checkSize.
func eachService(node *yaml.Node, visit func(service *yaml.Node)) {
	node = resolve(node)
	if childText(node, "apiVersion") != "v1" {
		return
	}
	switch items := child(node, "items"); childText(node, "kind") {
	case "Service":
		visit(node)
	case "List":
		if items != nil {
			for _, item := range resolve(items).Content {
				eachService(item, visit)
			}
		}
	}
}

// annotationsOf returns the annotations of an object, and the line of each.
func annotationsOf(object *yaml.Node) (said map[string]string, lines map[string]int) {
	said, lines = make(map[string]string), make(map[string]int)
	metadata := child(object, "metadata")
	if metadata == nil {
		return said, lines
	}
	annotations := child(metadata, "annotations")
	if annotations == nil || resolve(annotations).Kind != yaml.MappingNode {
		return said, lines
	}
	content := resolve(annotations).Content
	for i := 0; i+1 < len(content); i += 2 {
		key, value := resolve(content[i]), resolve(content[i+1])
		if key.Kind == yaml.ScalarNode && value.Kind == yaml.ScalarNode {
			said[key.Value], lines[key.Value] = value.Value, content[i].Line
		}
	}
	return said, lines
}
