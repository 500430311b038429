package policies

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// A table is what a show has found.
type table struct {
	name  string // of its file
	title string
	rows  [][]string // the first one is the heading

	begun      time.Time
	load       string        // average of the last minute then
	busy, mine time.Duration // time of the processors until then: of all programs, and of this one
}

func newTable(name, title string, heading ...string) *table {
	t := &table{name: name, title: title, rows: [][]string{heading}, begun: time.Now()}
	t.busy, t.mine = busyTime(), ownTime()
	averages, _ := os.ReadFile("/proc/loadavg")
	t.load, _, _ = strings.Cut(string(averages), " ")
	return t
}

// add adds a row; what it lacks is "-".
func (t *table) add(cells ...string) {
	for len(cells) < len(t.rows[0]) {
		cells = append(cells, "-")
	}
	t.rows = append(t.rows, cells)
}

// publish prints the table, and writes it to the folder of the results if there is one.
func (t *table) publish(b testing.TB) {
	fmt.Printf("\n%s. %s\n\n%s", t.title, t.circumstances(), t.markdown())
	if *results == "" {
		return
	}
	err := os.MkdirAll(*results, 0o755)
	if err == nil {
		err = t.writeCSV(filepath.Join(*results, t.name+".csv"))
	}
	if err != nil {
		b.Fatal(err)
	}
}

// circumstances are what else the processors have done meanwhile.
func (t *table) circumstances() string {
	others := busyTime() - t.busy - (ownTime() - t.mine)
	share := 100 * others.Seconds() / time.Since(t.begun).Seconds() / float64(runtime.NumCPU())
	return fmt.Sprintf("Other programs took %.0f %% of the %d processors, the load average at the beginning was %s.",
		max(share, 0), runtime.NumCPU(), t.load)
}

func (t *table) markdown() string {
	width := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for n, row := range t.rows {
		for i, cell := range row {
			space := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				cell += space
			} else {
				cell = space + cell
			}
			out.WriteString("| " + cell + " ")
		}
		out.WriteString("|\n")
		if n == 0 {
			for i, w := range width {
				out.WriteString("|" + strings.Repeat("-", w+1) + map[bool]string{true: "-", false: ":"}[i == 0])
			}
			out.WriteString("|\n")
		}
	}
	return out.String()
}

func (t *table) writeCSV(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := csv.NewWriter(f).WriteAll(t.rows); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

// percentile is that of values in milliseconds; "-" if there are none.
func percentile(values []time.Duration, p int) string {
	if len(values) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(values))
	return ms(sorted[min(len(sorted)*p/100, len(sorted)-1)])
}

func ms(d time.Duration) string { return number(float64(d)/1e6, 1) }

// percent is a part of the whole.
func percent(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	return number(100*part/whole, 2)
}

func number(f float64, digits int) string { return strconv.FormatFloat(f, 'f', digits, 64) }

// busyTime is how long the processors have worked, by /proc/stat: user, nice, system, and what
// interrupts took. Its unit is a hundredth of a second.
func busyTime() (sum time.Duration) {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line) {
		if slices.Contains([]int{1, 2, 3, 6, 7}, i) {
			n, _ := strconv.Atoi(field)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// ownTime is how long they have worked for this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
