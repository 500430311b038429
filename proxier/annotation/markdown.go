package annotation

import (
	"fmt"
	"slices"
	"strings"
)

// Docs returns all annotations in the order of their documentation.
func Docs() []Doc {
	docs := make([]Doc, len(entries))
	for i, e := range entries {
		docs[i] = e.Doc
	}
	return docs
}

// names are those of all annotations, sorted, without the prefix.
func names() []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.Name
	}
	slices.Sort(all)
	return all
}

// Table is ANNOTATIONS.md: all annotations in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString(`# Annotations of a Service

Made by "go generate ./proxier/annotation" from the table that usher itself reads them with.

Every name begins with ` + "`" + Prefix + "`" + `. The fields of a Service (sessionAffinity, traffic policies and so on)
always come first. An annotation wins over the flag of usher run that says the same for all Services.

A value that means nothing has no effect: the default counts, the Service is served, and a line in the log and an
Event ` + "`InvalidUsherAnnotation`" + ` of the Service say so. ` + "`usher config lint`" + ` says it without a cluster. An empty value is
the same as no annotation. Blanks around a value and around the items of a list do not matter. Durations have a unit
(` + "`1h30m`, `250ms`" + `).
`)
	fmt.Fprintf(&b, "A Service may have %d of them, with %d bytes each.\n\n", maxKeys, maxValue)
	b.WriteString("| annotation | values | default | flag | what it says |\n|---|---|---|---|---|\n")
	for _, d := range Docs() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, d.Values, d.Default, code("--", d.Flag), d.Help)
	}
	return b.String()
}

// code is a word as code, nothing if there is none.
func code(before, word string) string {
	if word == "" {
		return ""
	}
	return "`" + before + word + "`"
}
