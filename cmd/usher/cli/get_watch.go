package cli

import (
	"context"
	"io"
	"strings"
	"time"
)

// watchPause is between two looks of --watch.
var watchPause = time.Second

// change is an item, or a row of a table, that is not as it was before.
type change[T any] struct {
	what string
	of   T
}

// What can become of an item, as in the events of a watch of Kubernetes.
const (
	added    = "ADDED"
	modified = "MODIFIED"
	deleted  = "DELETED"
)

// changes compares what there is with what there was at the last call. looks is how each
// looks: what looks the same has not changed.
type changes[T any] struct {
	id, looks func(*T) string
	before    map[string]seenOnce[T]
	order     []string // of before
}

type seenOnce[T any] struct {
	item  T
	looks string
}

// next are the changes, in the order in which things came, and what is gone at the end.
func (c *changes[T]) next(now []T) (list []change[T]) {
	after := make(map[string]seenOnce[T], len(now))
	var order []string
	for _, item := range now {
		id, looks := c.id(&item), c.looks(&item)
		if _, twice := after[id]; twice {
			continue
		}
		after[id], order = seenOnce[T]{item, looks}, append(order, id)
		switch was, known := c.before[id]; {
		case !known:
			list = append(list, change[T]{added, item})
		case was.looks != looks:
			list = append(list, change[T]{modified, item})
		}
	}
	for _, id := range c.order {
		if _, there := after[id]; !there {
			list = append(list, change[T]{deleted, c.before[id].item})
		}
	}
	c.before, c.order = after, order
	return list
}

// follow prints what there is, and then what changes, until it is asked to stop.
func (k kind[T, R]) follow(ctx context.Context, g *getter, args []string, p *printer[T, R], out io.Writer) error {
	show := p.changedItems(g.watchEvents)
	if p.table {
		show = p.changedRows(g.watchEvents)
	}
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for first := true; ; first = false {
		found, err := k.list(ctx, g, args)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && (first || exitCode(err) != exitNotFound) {
			return err // but what was there may go, and come again
		}
		if p.sort != nil {
			if err := p.sort(found); err != nil {
				return err
			}
		}
		if err := show(out, found); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// changedRows prints those rows that are new or other than before. Only events tell what
// is gone, as its row looks as if it were there.
func (p *printer[T, R]) changedRows(events bool) func(io.Writer, []T) error {
	type row struct {
		item *T
		of   R
	}
	seen := changes[row]{
		id:    func(r *row) string { return p.kind.id(r.item) + "\x00" + p.nameOf(&r.of) },
		looks: func(r *row) string { return p.looks(&r.of, p.columns) },
	}
	return func(w io.Writer, items []T) error {
		var now []row
		for i := range items {
			for _, r := range p.kind.rows(&items[i]) {
				now = append(now, row{&items[i], r})
			}
		}
		var rows []R
		p.events = nil
		for _, c := range seen.next(now) {
			if events {
				p.events = append(p.events, c.what)
			}
			if events || c.what != deleted {
				rows = append(rows, c.of.of)
			}
		}
		if len(rows) == 0 {
			return nil
		}
		return p.each(w, rows)
	}
}

// changedItems prints a document for each item that is new or other than before.
func (p *printer[T, R]) changedItems(events bool) func(io.Writer, []T) error {
	seen := changes[T]{id: p.kind.id, looks: func(item *T) string {
		var b strings.Builder
		for _, r := range p.kind.rows(item) {
			b.WriteString(p.nameOf(&r) + "\x00" + p.looks(&r, p.kind.columns))
		}
		return b.String()
	}}
	return func(w io.Writer, items []T) error {
		for _, c := range seen.next(items) {
			var document any = c.of
			switch {
			case events:
				document = map[string]any{"type": c.what, "object": c.of}
			case c.what == deleted:
				continue
			}
			if p.between != "" {
				if _, err := io.WriteString(w, p.between); err != nil {
					return err
				}
			}
			if err := p.document(w, document); err != nil {
				return err
			}
		}
		return nil
	}
}

// looks is what of a row can be news.
func (p *printer[T, R]) looks(r *R, columns []column[R]) string {
	var b strings.Builder
	for _, c := range columns {
		if !c.moves {
			b.WriteString(c.cell(r) + "\x00")
		}
	}
	return b.String()
}

func (p *printer[T, R]) nameOf(r *R) string {
	if p.kind.name == nil {
		return ""
	}
	return p.kind.name(r)
}
