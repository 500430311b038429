package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/client-go/util/jsonpath"

	"github.com/usher-proxy/usher/proxier/observe"
)

// printer prints items in one of the formats of --output.
type printer[T, R any] struct {
	kind     kind[T, R]
	columns  []column[R]                    // of a table, and those that changes are seen by
	sort     func([]T) error                // nil: as they came
	rank     func(a, b *R) int              // of rows, nil: as they came
	table    bool                           // it prints no document
	aligned  *table                         // the columns so far
	header   bool                           // is to come
	one      bool                           // a document is of one item, not of a list
	each     func(io.Writer, []R) error     // prints rows, if it is a table
	document func(w io.Writer, v any) error // prints one, otherwise
	between  string                         // documents that come one after the other
	events   []string                       // what became of each of the next rows, nil if that is not asked for
}

// printer is what the flags ask for. names is how many the command line has.
func (k kind[T, R]) printer(g *getter, names int) (*printer[T, R], error) {
	p := &printer[T, R]{kind: k, aligned: &table{}, header: !g.noHeaders, one: k.single && names == 1}
	format, text, _ := strings.Cut(g.output, "=")
	for _, c := range k.columns {
		if (!c.wide || format == "wide") && (!c.all || g.all) {
			p.columns = append(p.columns, c)
		}
	}
	switch {
	case g.output == "table" || g.output == "wide":
		p.table, p.each = true, p.rows
	case g.output == "name" && k.name != nil:
		p.table, p.each = true, p.names
	case g.output == "json":
		p.document = asJSON[any]
	case g.output == "yaml":
		p.document, p.between = asYAML[any], "---\n"
	case format == "jsonpath" && text != "":
		t, err := template(text)
		if err != nil {
			return nil, fmt.Errorf("--output=%s: %w", g.output, err)
		}
		p.document = func(w io.Writer, v any) error { return p.template(w, t, v) }
	default:
		formats := slices.DeleteFunc(slices.Clone(outputs), func(o string) bool { return o == "name" && k.name == nil })
		return nil, fmt.Errorf("--output=%s: want %s or %s", g.output, strings.Join(formats[:len(formats)-1], ", "), formats[len(formats)-1])
	}
	if g.watchEvents && !g.watch {
		return nil, fmt.Errorf("--output-watch-events is for --watch")
	}
	return p, p.sortBy(g.sortBy)
}

// sortBy reads --sort-by.
func (p *printer[T, R]) sortBy(text string) error {
	if text == "" {
		return nil
	}
	k := p.kind
	if c, ok := find(k.columns, text); ok && !strings.ContainsAny(text, ".{[") {
		p.rank = c.compare
		p.sort = func(items []T) error {
			keys := make(map[string]R, len(items))
			for i := range items {
				keys[k.id(&items[i])] = slices.MinFunc(k.rows(&items[i]), func(a, b R) int { return c.compare(&a, &b) })
			}
			slices.SortStableFunc(items, func(a, b T) int {
				first, second := keys[k.id(&a)], keys[k.id(&b)]
				return c.compare(&first, &second)
			})
			return nil
		}
		return nil
	}
	if !strings.ContainsAny(text, ".{[") {
		return fmt.Errorf("--sort-by=%s: want a JSONPath as in .name, or one of the columns: %s", text, strings.Join(titles(k.columns), ", "))
	}
	t, err := field(text)
	if err != nil {
		return fmt.Errorf("--sort-by=%s: %w", text, err)
	}
	p.sort = func(items []T) error { return sortByField(items, k.id, t) }
	return nil
}

func sortByField[T any](items []T, id func(*T) string, by *jsonpath.JSONPath) error {
	keys := make(map[string]sortKey, len(items))
	for i := range items {
		key, err := keyOf(by, items[i])
		if err != nil {
			return fmt.Errorf("--sort-by: %w", err)
		}
		keys[id(&items[i])] = key
	}
	slices.SortStableFunc(items, func(a, b T) int { return keys[id(&a)].compare(keys[id(&b)]) })
	return nil
}

// items prints all of them.
func (p *printer[T, R]) items(w io.Writer, items []T) error {
	if p.sort != nil {
		if err := p.sort(items); err != nil {
			return err
		}
	}
	switch {
	case p.table:
		return p.each(w, p.rowsOf(items))
	case p.one && len(items) == 1:
		return p.document(w, items[0])
	}
	return p.document(w, items)
}

// rowsOf are those of all items.
func (p *printer[T, R]) rowsOf(items []T) (rows []R) {
	for i := range items {
		rows = append(rows, p.kind.rows(&items[i])...)
	}
	if p.rank != nil {
		slices.SortStableFunc(rows, func(a, b R) int { return p.rank(&a, &b) })
	}
	return rows
}

func (p *printer[T, R]) rows(w io.Writer, rows []R) error {
	cells := make([][]string, 0, len(rows)+1)
	if p.header {
		cells, p.header = append(cells, p.titles()), false
	}
	for i := range rows {
		row := p.cells(&rows[i])
		if p.events != nil {
			row = slices.Insert(row, 0, p.events[i])
		}
		cells = append(cells, row)
	}
	_, err := io.WriteString(w, p.aligned.lines(cells))
	return err
}

func (p *printer[T, R]) titles() (cells []string) {
	if p.events != nil {
		cells = append(cells, "EVENT")
	}
	for _, c := range p.columns {
		cells = append(cells, c.title)
	}
	return cells
}

func (p *printer[T, R]) cells(r *R) []string {
	cells := make([]string, len(p.columns))
	for i, c := range p.columns {
		cells[i] = c.cell(r)
	}
	return cells
}

func (p *printer[T, R]) names(w io.Writer, rows []R) error {
	var b strings.Builder
	for i := range rows {
		if name := p.kind.name(&rows[i]); name != "" {
			b.WriteString(p.kind.singular + "/" + observe.Printable(name) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// template prints what a template makes of an item, or, as with kubectl, of a list of them
// with the field items.
func (p *printer[T, R]) template(w io.Writer, t *jsonpath.JSONPath, v any) error {
	if _, list := v.([]T); list {
		v = map[string]any{"items": v}
	}
	return asTemplate(w, t, v)
}
