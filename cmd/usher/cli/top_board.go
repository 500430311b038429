package cli

import (
	"cmp"
	"slices"
	"strings"
)

// The views of usher top.
const (
	servicesView = iota
	endpointsView
	clientsView
)

var topViews = []string{"services", "endpoints", "clients"}

// board is a view of usher top: rows, of which some are shown in some order.
type board interface {
	// take makes rows of an answer and the one before, which may be nil.
	take(now, before *topAnswer)
	// arrange has those rows that contain the filter, in the order of the column by.
	arrange(filter string, by int)
	// size is how many rows there are, and how many of them are shown.
	size() (shown, all int)
	titles() []string
	rightAligned(column int) bool
	cells(from, to int) [][]string
	// table is all that is shown as text, and document for programs.
	table() string
	document() any
}

// boardOf is a board with a row for each R.
type boardOf[R any] struct {
	columns []column[R] // the first ones are names
	made    func(now, before *topAnswer) []R
	rows    []R
	shown   []int // of rows
}

func (b *boardOf[R]) take(now, before *topAnswer) { b.rows = b.made(now, before) }

func (b *boardOf[R]) arrange(filter string, by int) {
	b.shown = b.shown[:0]
	for i := range b.rows {
		if b.fits(&b.rows[i], filter) {
			b.shown = append(b.shown, i)
		}
	}
	c := b.columns[by]
	slices.SortStableFunc(b.shown, func(x, y int) int {
		order := c.compare(&b.rows[x], &b.rows[y])
		if c.order != nil {
			order = -order // of numbers the greatest first
		}
		return cmp.Or(order, b.columns[0].compare(&b.rows[x], &b.rows[y]))
	})
}

// fits says whether a name of the row contains the filter.
func (b *boardOf[R]) fits(r *R, filter string) bool {
	if filter == "" {
		return true
	}
	return slices.ContainsFunc(b.columns, func(c column[R]) bool {
		return c.order == nil && strings.Contains(strings.ToLower(c.cell(r)), strings.ToLower(filter))
	})
}

func (b *boardOf[R]) size() (shown, all int) { return len(b.shown), len(b.rows) }

func (b *boardOf[R]) titles() (list []string) {
	for _, c := range b.columns {
		list = append(list, c.title)
	}
	return list
}

func (b *boardOf[R]) rightAligned(column int) bool { return b.columns[column].order != nil }

func (b *boardOf[R]) cells(from, to int) [][]string {
	var rows [][]string
	for _, i := range b.shown[min(from, len(b.shown)):min(to, len(b.shown))] {
		row := make([]string, len(b.columns))
		for j, c := range b.columns {
			row[j] = c.cell(&b.rows[i])
		}
		rows = append(rows, row)
	}
	return rows
}

func (b *boardOf[R]) table() string {
	return new(table).lines(append([][]string{b.titles()}, b.cells(0, len(b.shown))...))
}

func (b *boardOf[R]) document() any {
	list := make([]R, 0, len(b.shown))
	for _, i := range b.shown {
		list = append(list, b.rows[i])
	}
	return list
}
