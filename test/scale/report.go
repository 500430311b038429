package scale

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// A report is what was found about usher, and about kube-proxy if it was measured.
type report struct {
	plan      plan
	begun     time.Time
	usher     *figures
	kubeProxy *figures
}

// publish prints the table, and writes it and all samples into a folder if there is one.
func (r *report) publish(folder string) error {
	fmt.Println()
	if err := r.writeTable(os.Stdout); err != nil || folder == "" {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	name := filepath.Join(folder, fmt.Sprintf("scale-%d", r.plan.services))
	if err := writeFile(name+".txt", r.writeTable); err != nil {
		return err
	}
	return writeFile(name+".json", r.writeJSON)
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

// writeTable writes a line for each row that usher has figures for. Ratios are kube-proxy's
// figure divided by usher's.
func (r *report) writeTable(w io.Writer) error {
	averages, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(w, "%d Services, %d endpoints, %d processors, load average in the end %.4s\n\n",
		r.plan.services, perService*r.plan.services, runtime.NumCPU(), averages)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tusher\tkube-proxy nftables\tkube-proxy / usher\twanted\tmet")
	for _, row := range rows(r.plan.services) {
		if cells := r.cells(row); cells != nil {
			fmt.Fprintln(table, strings.Join(cells, "\t"))
		}
	}
	return table.Flush()
}

// cells are those of a row, nil if it was not measured.
func (r *report) cells(row row) []string {
	if len(r.usher.Samples[row.figure]) == 0 {
		return nil
	}
	usher, ratio := r.usher.percentile(row.figure, row.percentile), 0.0
	cells := []string{row.title, strconv.FormatFloat(usher, 'f', row.digits, 64), "-", "-", row.wanted, ""}
	if len(r.kubeProxy.Samples[row.figure]) > 0 {
		other := r.kubeProxy.percentile(row.figure, row.percentile)
		cells[2] = strconv.FormatFloat(other, 'f', row.digits, 64)
		if usher > 0 {
			ratio = other / usher
			cells[3] = strconv.FormatFloat(ratio, 'f', 2, 64)
		}
	}
	switch {
	case row.met == nil:
	case row.met(usher, ratio):
		cells[5] = "yes"
	default:
		cells[5] = "NO"
	}
	return cells
}

// writeJSON writes all samples, with what is known of the machine.
func (r *report) writeJSON(w io.Writer) error {
	var name unix.Utsname
	unix.Uname(&name) // the release is empty then
	out := json.NewEncoder(w)
	out.SetIndent("", " ")
	return out.Encode(map[string]any{
		"kernel":     unix.ByteSliceToString(name.Release[:]),
		"processors": runtime.NumCPU(),
		"begun":      r.begun,
		"took_s":     time.Since(r.begun).Seconds(),
		"services":   r.plan.services,
		"endpoints":  perService * r.plan.services,
		"usher":      r.usher.Samples,
		"kube-proxy": r.kubeProxy.Samples,
	})
}
