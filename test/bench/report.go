package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// publish prints the table and writes the files into a folder, which may not be there yet. An
// empty one stands for no files.
func (r *Report) publish(folder string) error {
	fmt.Println()
	if err := r.writeTable(os.Stdout); err != nil || folder == "" {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for ending, write := range map[string]func(io.Writer) error{
		".txt": r.writeTable, ".csv": r.writeCSV, ".json": r.writeJSON,
	} {
		if err := writeFile(filepath.Join(folder, r.name+ending), write); err != nil {
			return err
		}
	}
	for _, load := range r.plotted() {
		path := filepath.Join(folder, r.name+"-"+load+".svg")
		if err := writeFile(path, func(w io.Writer) error { return r.writePlot(w, load) }); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

// writeTable writes the medians of each path and its ratios to the others, a block for each
// load, with what was measured of that.
func (r *Report) writeTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, load := range r.loads() {
		all := r.summariesOf(load)
		columns, comparisons := r.measuredOf(all)
		heading := []string{load}
		for _, c := range columns {
			heading = append(heading, c.name)
		}
		for _, c := range comparisons {
			heading = append(heading, c.String())
		}
		fmt.Fprintln(table, strings.Join(heading, "\t"))
		for _, s := range all {
			fmt.Fprintln(table, strings.Join(s.cells(columns, comparisons), "\t"))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// measuredOf are the columns and comparisons that one of the paths has.
func (r *Report) measuredOf(all []Summary) (columns []column, comparisons []comparison) {
	for _, c := range r.columns {
		if slices.ContainsFunc(all, func(s Summary) bool { _, ok := s.Medians[c.name]; return ok }) {
			columns = append(columns, c)
		}
	}
	for _, c := range r.comparisons {
		if slices.ContainsFunc(all, func(s Summary) bool { _, ok := s.Ratios[c.String()]; return ok }) {
			comparisons = append(comparisons, c)
		}
	}
	return columns, comparisons
}

func (s Summary) cells(columns []column, comparisons []comparison) []string {
	cells := []string{s.Path}
	for _, c := range columns {
		cell := "-"
		if v, ok := s.Medians[c.name]; ok {
			cell = strconv.FormatFloat(v, 'f', c.digits, 64)
		}
		cells = append(cells, cell)
	}
	for _, c := range comparisons {
		cell := "-"
		if ratio, ok := s.Ratios[c.String()]; ok {
			cell = ratio.String()
		}
		cells = append(cells, cell)
	}
	return cells
}

// String is such as 1.25 [1.20, 1.30].
func (r Ratio) String() string {
	if r.Rounds < 2 {
		return fmt.Sprintf("%.2f", r.Mean)
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", r.Mean, r.Low, r.High)
}

// writeCSV writes each measurement as a line.
func (r *Report) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	heading := []string{"round", "load", "path"}
	for _, c := range r.columns {
		heading = append(heading, c.name)
	}
	out.Write(heading)
	for _, m := range r.measurements {
		line := []string{strconv.Itoa(m.Round), m.Load, m.Path}
		for _, c := range r.columns {
			cell := ""
			if v, ok := m.Values[c.name]; ok {
				cell = strconv.FormatFloat(v, 'f', -1, 64)
			}
			line = append(line, cell)
		}
		out.Write(line)
	}
	out.Flush()
	return out.Error()
}

// writeJSON writes everything, with what is known of the machine.
func (r *Report) writeJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(struct {
		Machine      map[string]string `json:"machine"`
		Arguments    []string          `json:"arguments"`
		Summaries    []Summary         `json:"summaries"`
		Measurements []Measurement     `json:"measurements"`
	}{machine(), os.Args[1:], r.summaries(), r.measurements})
}

func machine() map[string]string {
	var name unix.Utsname
	unix.Uname(&name) // the release is empty then
	return map[string]string{
		"kernel":     unix.ByteSliceToString(name.Release[:]),
		"processors": strconv.Itoa(runtime.NumCPU()),
		"nginx":      firstLine("nginx", "-v"),
		"nsd":        firstLine("nsd", "-v"),
		"haproxy":    firstLine("haproxy", "-v"),
		"wrk":        firstLine("wrk", "-v"),
		"iperf3":     firstLine("iperf3", "-v"),
	}
}

// firstLine is what a program says first, or why it does not.
func firstLine(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if len(out) == 0 && err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
