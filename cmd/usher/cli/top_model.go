package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/usher-proxy/usher/proxier/observe"
)

// topModel is what usher top shows, and how somebody wants to see it. It knows nothing of
// terminals but their size.
type topModel struct {
	view    int
	boards  []board
	by      []int // the column that each board is sorted by
	last    *topAnswer
	before  *topAnswer // that last is compared with
	seconds float64    // between them
	fault   error      // of the last question
	top     int        // the first row that is shown
	page    int        // how many fit
	filter  string
	typing  bool // of a filter
}

func newTopModel(view int) *topModel {
	return &topModel{view: view, boards: newBoards(), by: []int{1, 4, 2}, page: 1} // by how many connections begin
}

func (t *topModel) board() board { return t.boards[t.view] }

// take takes in an answer.
func (t *topModel) take(now *topAnswer) {
	if t.fault = now.err; now.err != nil {
		return // what there was is better than nothing
	}
	if t.last != nil && (t.before == nil || now.traffic.Time.Sub(t.last.traffic.Time) >= leastInterval) {
		t.before = t.last // but not one of just before, which another view was asked for
	}
	if t.last = now; t.before != nil {
		t.seconds = now.traffic.Time.Sub(t.before.traffic.Time).Seconds()
	}
	t.board().take(now, t.before)
	t.arrange()
}

func (t *topModel) arrange() {
	t.board().arrange(t.filter, t.by[t.view])
	t.scroll(0)
}

// scroll moves the rows, as far as there are some.
func (t *topModel) scroll(by int) {
	shown, _ := t.board().size()
	t.top = max(0, min(t.top+by, shown-t.page))
}

// press does what a key is for, and says whether that is to quit.
func (t *topModel) press(key string) (quit bool) {
	if t.typing {
		return t.typeFilter(key)
	}
	switch key {
	case "q", "Q", "ctrl-c":
		return true
	case "s":
		t.sortBy(1)
	case "S":
		t.sortBy(-1)
	case "/":
		t.typing = true
	case "tab":
		t.show((t.view + 1) % len(t.boards))
	case "1", "2", "3":
		t.show(int(key[0] - '1'))
	case "esc":
		t.filter = ""
		t.arrange()
	case "up", "k":
		t.scroll(-1)
	case "down", "j":
		t.scroll(1)
	case "pgup", "b":
		t.scroll(-t.page)
	case "pgdn", " ":
		t.scroll(t.page)
	case "home", "g":
		t.scroll(-t.top)
	case "end", "G":
		shown, _ := t.board().size()
		t.scroll(shown)
	}
	return false
}

// filterRunes is how long a filter may be.
const filterRunes = 60

func (t *topModel) typeFilter(key string) (quit bool) {
	switch key {
	case "ctrl-c":
		return true
	case "enter":
		t.typing = false
	case "esc":
		t.typing, t.filter = false, ""
	case "backspace":
		_, n := utf8.DecodeLastRuneInString(t.filter)
		t.filter = t.filter[:len(t.filter)-n]
	default:
		if utf8.RuneCountInString(key) == 1 && utf8.RuneCountInString(t.filter) < filterRunes {
			t.filter += key
		}
	}
	t.top = 0
	t.arrange()
	return false
}

func (t *topModel) sortBy(step int) {
	n := len(t.board().titles())
	t.by[t.view] = (t.by[t.view] + step + n) % n
	t.top = 0
	t.arrange()
}

// show shows another view, with what is known so far.
func (t *topModel) show(view int) {
	t.view, t.top = view, 0
	if t.last != nil {
		t.board().take(t.last, t.before)
	}
	t.arrange()
}

// headLines are above the rows.
const headLines = 5

// frame is the screen: as many lines as it is high, none wider than it is.
func (t *topModel) frame(width, height int, paint painter) []string {
	t.page = max(1, height-headLines-1)
	t.scroll(0)
	lines := t.head(width, paint)
	rows := t.board().cells(t.top, t.top+t.page)
	widths := t.widths(rows, width)
	lines = append(lines, paint.in(reverse, cutTo(t.row(t.board().titles(), widths), width)))
	for _, row := range rows {
		lines = append(lines, paint.in("", cutTo(t.row(row, widths), width)))
	}
	if len(rows) == 0 {
		lines = append(lines, paint.in("", cutTo(t.empty(), width)))
	}
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, min(height-1, len(lines)))], paint.in(dim, cutTo(t.foot(), width)))
	return lines[max(0, len(lines)-height):]
}

// empty says why there is nothing to see.
func (t *topModel) empty() string {
	_, all := t.board().size()
	switch {
	case all > 0:
		return "No name contains " + t.filter + "; Esc shows all again."
	case t.view != servicesView && t.last.view == servicesView:
		return "usher is being asked." // other views need more
	case t.view == servicesView:
		return "No Service has had any traffic yet."
	}
	return "Nobody has talked to anybody, as far as usher remembers."
}

func (t *topModel) head(width int, paint painter) []string {
	s := t.last.status
	up := ""
	if !s.Started.IsZero() {
		up = " up " + age(s.Started)
	}
	first := fmt.Sprintf("usher %s on %s%s, capture %s", s.Version, orNone(s.Node), up, orNone(s.Capture))
	clock := t.last.traffic.Time.Local().Format(time.TimeOnly)
	first = padTo(cutTo(first, width-len(clock)-1), width-len(clock)) + clock
	second := fmt.Sprintf("%d connections, %d sessions, %d service ports, files %s", s.Connections, s.UDPSessions, s.Ports, gauge(s.Files))

	third, color := "attention: nothing", ""
	if n := len(t.last.attention); n > 0 {
		a := t.last.attention[0]
		third, color = fmt.Sprintf("attention (%d): %s %s %s: %s", n, a.Severity, about(a), a.Reason, a.Message), magenta
		if a.Severity == "error" {
			color = red
		}
	}
	if t.fault != nil {
		third, color = "as it was: "+complaint(t.fault), red
	}
	shown, all := t.board().size()
	fourth := ""
	for i, name := range topViews {
		if i == t.view {
			name = "[" + name + "]"
		}
		fourth += name + " "
	}
	fourth += fmt.Sprintf(" %d-%d of %d", min(t.top+1, shown), min(t.top+t.page, shown), shown)
	if shown != all {
		fourth += fmt.Sprintf(" (%d in all)", all)
	}
	fourth += ", by " + t.board().titles()[t.by[t.view]]
	if t.filter != "" && !t.typing {
		fourth += ", filter: " + t.filter
	}
	return []string{
		paint.in(bold, cutTo(first, width)), paint.in("", cutTo(second, width)), paint.in(color, cutTo(third, width)), paint.in("", cutTo(fourth, width)),
	}
}

func (t *topModel) foot() string {
	if t.typing {
		return "filter: " + t.filter + "_   (Enter keeps it, Esc clears it)"
	}
	return "q quit  s sort  / filter  Tab view  arrows PgUp PgDn scroll"
}

// leastName is how narrow a column of names may become.
const leastName = 8

// widths are those of the columns: what their cells need, and less for names where that is
// too much for the screen.
func (t *topModel) widths(rows [][]string, width int) []int {
	b := t.board()
	titles := b.titles()
	widths, sum := make([]int, len(titles)), len(titles)-1
	for i, title := range titles {
		widths[i] = len(title)
		if b.rightAligned(i) {
			widths[i] = max(widths[i], 6)
		}
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		sum += widths[i]
	}
	for spare := true; sum > width; {
		widest := -1
		for i := range widths {
			if !b.rightAligned(i) && !(spare && isAddress(titles[i])) && widths[i] > leastName && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			if !spare {
				break // the last columns do not fit
			}
			spare = false
			continue
		}
		widths[widest]--
		sum--
	}
	if !b.rightAligned(0) && sum < width {
		widths[0] += min(width-sum, 40-min(40, widths[0]))
	}
	return widths
}

// isAddress says whether a column is of addresses, which are cut last: cut, those of one
// network look all the same.
func isAddress(title string) bool { return title == "ENDPOINT" || title == "CLIENT" }

// row aligns cells.
func (t *topModel) row(cells []string, widths []int) string {
	var line strings.Builder
	for i, cell := range cells {
		cell = cutTo(observe.Printable(cell), widths[i])
		if t.board().rightAligned(i) {
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + cell)
		} else {
			line.WriteString(padTo(cell, widths[i]))
		}
		if i < len(cells)-1 {
			line.WriteByte(' ')
		}
	}
	return line.String()
}

// cutTo is a text that is not wider, and says so if it was.
func cutTo(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	return string([]rune(text)[:width-1]) + "~"
}

func padTo(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}
