package bench

import (
	"cmp"
	"slices"
)

// A Measurement is what one path did under one load in one round.
type Measurement struct {
	Round  int                `json:"round"` // from 1
	Load   string             `json:"load"`
	Path   string             `json:"path"`
	Values map[string]float64 `json:"values"` // by the name of the column
}

// The columns of the tables. They are units of the benchmarks too.
const (
	rate       = "queries/s"
	lost       = "lost-%"
	p50        = "p50-us"
	p99        = "p99-us"
	pacedP50   = "paced-p50-us"
	pacedP99   = "paced-p99-us"
	cpu        = "proxy-cpu-us/query"
	rss        = "rss-MB"
	rssEach    = "rss-B/session"
	fdsEach    = "fds/session"
	slabEach   = "slab-B/session"
	cpuSession = "proxy-cpu-us/session"
	others     = "others-%"

	requestRate    = "requests/s"
	cpuRequest     = "proxy-cpu-us/request"
	connectionRate = "connections/s"
	newP99         = "new-p99-us"
	cpuConnection  = "proxy-cpu-us/connection"
	bulkRate       = "Gbit/s"
	retransmits    = "retransmits/GB"
	cpuGB          = "proxy-cpu-s/GB"
	held           = "held"
	pssEach        = "pss-B/connection"
	rssEachConn    = "rss-B/connection"
	slabEachConn   = "slab-B/connection"
	fdsEachConn    = "fds/connection"
	besideP99      = "beside-p99-us"
	besideCPU      = "beside-cpu-us/request"
)

// A column is one value of all measurements.
type column struct {
	name   string
	digits int // after the decimal point
}

// A comparison is the ratio of a column to that of another path, or else to another column of
// the same path, its base.
type comparison struct {
	column, path, base string
}

func (c comparison) String() string { return c.column + " / " + cmp.Or(c.path, c.base) }

// of tells what the column of a path is compared with, if anything.
func (c comparison) of(path string) (otherPath, otherColumn string, ok bool) {
	if c.path == "" {
		return path, c.base, true
	}
	return c.path, c.column, c.path != path
}

// A Report is a table of measurements.
type Report struct {
	name         string // of its files
	columns      []column
	comparisons  []comparison
	charts       []chart
	measurements []Measurement
}

// add adds what one path did. A path that did not answer adds nothing.
func (r *Report) add(m Measurement) { r.measurements = append(r.measurements, m) }

// loads are those that were measured, in their order.
func (r *Report) loads() []string {
	return distinct(r.measurements, func(m Measurement) string { return m.Load })
}

// paths are those that were measured, in the order of the package. Others come first, as they
// were measured.
func (r *Report) paths() []string {
	names := distinct(r.measurements, func(m Measurement) string { return m.Path })
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(pathIndex(a), pathIndex(b)) })
	return names
}

func pathIndex(name string) int {
	return slices.IndexFunc(paths, func(p path) bool { return p.name == name })
}

func distinct(all []Measurement, of func(Measurement) string) (found []string) {
	for _, m := range all {
		if !slices.Contains(found, of(m)) {
			found = append(found, of(m))
		}
	}
	return found
}

// values are those of a column by round.
func (r *Report) values(load, path, column string) map[int]float64 {
	values := map[int]float64{}
	for _, m := range r.measurements {
		if v, ok := m.Values[column]; ok && m.Load == load && m.Path == path {
			values[m.Round] = v
		}
	}
	return values
}

// A Summary is what all rounds say about one path under one load.
type Summary struct {
	Load    string             `json:"load"`
	Path    string             `json:"path"`
	Rounds  int                `json:"rounds"`
	Medians map[string]float64 `json:"medians"` // by column
	Ratios  map[string]Ratio   `json:"ratios"`  // by comparison
}

func (r *Report) summaries() (all []Summary) {
	for _, load := range r.loads() {
		all = append(all, r.summariesOf(load)...)
	}
	return all
}

func (r *Report) summariesOf(load string) (all []Summary) {
	for _, path := range r.paths() {
		if s := r.summary(load, path); s.Rounds > 0 {
			all = append(all, s)
		}
	}
	return all
}

func (r *Report) summary(load, path string) Summary {
	s := Summary{Load: load, Path: path, Medians: map[string]float64{}, Ratios: map[string]Ratio{}}
	for _, c := range r.columns {
		values := r.values(load, path, c.name)
		s.Rounds = max(s.Rounds, len(values))
		if len(values) > 0 {
			s.Medians[c.name] = median(values)
		}
	}
	for _, c := range r.comparisons {
		otherPath, otherColumn, ok := c.of(path)
		if !ok {
			continue
		}
		ratio := ratioOf(r.values(load, path, c.column), r.values(load, otherPath, otherColumn))
		if ratio.Rounds > 0 {
			s.Ratios[c.String()] = ratio
		}
	}
	return s
}
