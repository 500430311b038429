package load

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Results is the folder for tables, empty for none.
var Results = flag.String("results", "", "folder for tables of upgrades, empty for none")

// Columns are those of a row, of all upgrades:
//
//	times                  how many
//	told-ms, -max          how long usher says that established connections rested: median and
//	                       maximum
//	pause-ms, -max         longest time without a byte on streams that are read all the time,
//	                       of 16 KiB each 10 ms, likewise
//	before-ms              the same in the half second before each upgrade: what the machine
//	                       does anyway, median
//	connect-ms, -max       longest time until a new connection was answered
//	connections, failed    new ones that were answered, and that were not
//	broken                 established ones that ended, or with other bytes than sent
//	datagrams, lost        that were answered, and that were not, or twice
//	dnsperf                queries of dnsperf, and of those without an answer
//	MB                     of streams that have arrived, by checksum
//
// A dash is for what was not looked at.
const Columns = "upgrade\ttimes\ttold-ms\ttold-max\tpause-ms\tpause-max\tbefore-ms\tconnect-ms\tconnect-max\tconnections\tfailed\tbroken\tdatagrams\tlost\tdnsperf\tMB"

// A Row is a line of a table, to be written when its load has ended.
type Row struct {
	Name string
	Told []time.Duration // pauses, by usher

	load                   *Load
	before, pauses, delays []time.Duration
	dnsperf                string
}

// String has the cells, with tabs between them.
func (r *Row) String() string {
	l, datagrams, lost, dnsperf := r.load, "-", "-", "-"
	if l.Asked.Load() > 0 {
		datagrams, lost = fmt.Sprint(l.Replied.Load()), fmt.Sprint(l.Lost.Count())
	}
	if r.dnsperf != "" {
		dnsperf = r.dnsperf
	}
	before, _ := middle(r.before)
	told, toldMax := middle(r.Told)
	pause, pauseMax := middle(r.pauses)
	if l.killed.Load() != nil { // streams have ended with usher
		pause, pauseMax, before = "-", "-", "-"
	}
	delay, delayMax := middle(r.delays)
	return strings.Join([]string{
		r.Name, fmt.Sprint(len(r.pauses)), told, toldMax, pause, pauseMax, before, delay, delayMax,
		fmt.Sprint(l.Answered.Load()), fmt.Sprint(l.Failed.Count()), fmt.Sprint(l.Broken.Count()), datagrams, lost, dnsperf, fmt.Sprint(l.Moved.Load() >> 20),
	}, "\t")
}

// middle is the median and the maximum, in ms.
func middle(of []time.Duration) (median, most string) {
	if len(of) == 0 {
		return "-", "-"
	}
	of = slices.Sorted(slices.Values(of))
	return fmt.Sprint(of[len(of)/2].Milliseconds()), fmt.Sprint(of[len(of)-1].Milliseconds())
}

// WriteTable writes lines of cells with tabs between them.
func WriteTable(w io.Writer, lines ...string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintln(t, line)
	}
	return t.Flush()
}

// Record prints the row, and puts it into the table of all carriers, in place of one with the
// same name.
func (r *Row) Record() {
	t := r.load.site.t
	t.Helper()
	err := WriteTable(t.Output(), Columns, r.String())
	if err == nil && *Results != "" {
		err = r.into(filepath.Join(*Results, "carriers.txt"))
	}
	if err != nil {
		t.Error(err)
	}
}

// into puts it there: carriers are tested by several packages, one after the other.
func (r *Row) into(path string) error {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	lines := []string{Columns}
	_, rows, _ := strings.Cut(string(text), "MB\n") // which ends the columns
	for line := range strings.Lines(rows) {
		if cells := strings.Fields(line); cells[0] != r.Name {
			lines = append(lines, strings.Join(cells, "\t"))
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, "%d streams both ways (%d with a reader that stalls), %d statements and %d new connections a second\n\n",
		Full.Streams, Full.Stalled, Full.Statements, Full.Requests)
	return WriteTable(f, append(lines, r.String())...)
}
