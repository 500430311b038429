package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/usher-proxy/usher/proxier/observe"
)

// column is one of a table with a row for each R.
type column[R any] struct {
	title string
	cell  func(*R) string
	// order compares two rows for --sort-by; nil: by their cells.
	order func(a, b *R) int
	wide  bool // only with -o wide
	all   bool // only with --all-namespaces
	moves bool // it changes as time goes, which is no news for --watch
}

func (c column[R]) compare(a, b *R) int {
	if c.order != nil {
		return c.order(a, b)
	}
	return cmp.Compare(c.cell(a), c.cell(b))
}

// by orders rows by a number or a text of theirs.
func by[R any, N cmp.Ordered](of func(*R) N) func(a, b *R) int {
	return func(a, b *R) int { return cmp.Compare(of(a), of(b)) }
}

// numeric is a column of numbers.
func numeric[R any, N int | int64 | uint64](title string, of func(*R) N) column[R] {
	return column[R]{title: title, cell: func(r *R) string { return fmt.Sprint(of(r)) }, order: by(of)}
}

// inWide are columns that only -o wide has.
func inWide[R any](columns ...column[R]) []column[R] {
	for i := range columns {
		columns[i].wide = true
	}
	return columns
}

// columnGap is between two columns.
const columnGap = "   "

// table aligns cells. It remembers how wide its columns are, so that rows that are printed
// later stand below those before.
type table struct{ widths []int }

// lines are the rows as text. What is not printable in a cell is not printed.
func (t *table) lines(rows [][]string) string {
	for _, row := range rows {
		for i, cell := range row {
			row[i] = observe.Printable(orNone(cell))
			if i == len(t.widths) {
				t.widths = append(t.widths, 0)
			}
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i == len(row)-1 {
				break // what is last needs no spaces behind it
			}
			b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)))
			b.WriteString(columnGap)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// listing has lines of a name and a value, aligned.
func listing(rows [][2]string) string {
	cells := make([][]string, len(rows))
	for i, row := range rows {
		cells[i] = row[:]
	}
	return new(table).lines(cells)
}

// find is the column that somebody means by a name: its title, in any case, with or
// without what is no letter.
func find[R any](columns []column[R], name string) (column[R], bool) {
	i := slices.IndexFunc(columns, func(c column[R]) bool { return letters(c.title) == letters(name) })
	if i < 0 || letters(name) == "" {
		return column[R]{}, false
	}
	return columns[i], true
}

func letters(of string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, of)
}

// titles are those of columns, as --sort-by takes them.
func titles[R any](columns []column[R]) (list []string) {
	for _, c := range columns {
		list = append(list, strings.ToLower(c.title))
	}
	return list
}
