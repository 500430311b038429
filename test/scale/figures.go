package scale

import (
	"slices"
	"strconv"
)

// figures are what was found about one proxy: the samples of each by its name.
type figures struct {
	proxy   string
	Samples map[string][]float64
}

func newFigures(proxy string) *figures { return &figures{proxy, map[string][]float64{}} }

func (f *figures) add(name string, values ...float64) {
	f.Samples[name] = append(f.Samples[name], values...)
}

// value is the median of the samples, of which there must be one.
func (f *figures) value(name string) float64 { return f.percentile(name, 50) }

// percentile is that of the samples: the greatest for 99 of a hundred of them.
func (f *figures) percentile(name string, p int) float64 {
	sorted := slices.Sorted(slices.Values(f.Samples[name]))
	n := len(sorted)
	if p == 50 {
		return (sorted[(n-1)/2] + sorted[n/2]) / 2
	}
	return sorted[min(n*p/100, n-1)]
}

// Names of figures.
const (
	startTime    = "start-s"
	startCPU     = "start-cpu-s"
	startRSS     = "start-rss-MB"
	fill         = "fill-s"
	passTime     = "passes-s"
	passes       = "passes"
	answering    = "answering"
	added        = "added-ms"
	addedAPI     = "added-api-ms"
	changed      = "changed-ms"
	changedAPI   = "changed-api-ms"
	stale        = "stale-answers"
	rateOne      = "one-conn/s"
	rateLast     = "last-conn/s"
	rateKept     = "last/one"
	churnCPU     = "churn-cpu-%"
	churnChanges = "churn-changes/s"
	churnAsked   = "churn-connections"
	churnFailed  = "churn-failed"
	churnLatency = "churn-ms"
	endRSS       = "rss-MB"
	endPeak      = "peak-rss-MB"
	endCPU       = "cpu-s"
)

// A row is a line of the table.
type row struct {
	title, figure string
	percentile    int
	digits        int
	wanted        string // "" for nothing in particular
	met           func(usher, ratio float64) bool
}

func under(limit float64) func(float64, float64) bool {
	return func(v, _ float64) bool { return v < limit }
}

func atLeast(limit float64) func(float64, float64) bool {
	return func(v, _ float64) bool { return v >= limit }
}

func fasterBy(times float64) func(float64, float64) bool {
	return func(_, ratio float64) bool { return ratio >= times }
}

// rows are those of the table. services is how many there are.
func rows(services int) []row {
	return []row{
		{"from process start until the last Service answers, s", startTime, 50, 2, "3 times faster", fasterBy(3)},
		{"CPU time until then, s", startCPU, 50, 2, "", nil},
		{"resident memory then, MB", startRSS, 50, 0, "", nil},
		{"from lists complete until listeners open and rules written, s", fill, 50, 2, "< 2", under(2)},
		{"time of the passes until then, s", passTime, 50, 2, "", nil},
		{"number of the passes until then", passes, 50, 0, "", nil},
		{"Services that answer", answering, 50, 0, strconv.Itoa(services), atLeast(float64(services))},
		{"Service added, until it answers, ms, p50", added, 50, 1, "", nil},
		{"the same, p99", added, 99, 1, "< 100", under(100)},
		{"the API server's answer to that write, ms, p50", addedAPI, 50, 1, "", nil},
		{"the same, p99", addedAPI, 99, 1, "", nil},
		{"endpoints changed, until a new one answers, ms, p50", changed, 50, 1, "", nil},
		{"the same, p99", changed, 99, 1, "< 50", under(50)},
		{"the API server's answer to that write, ms, p50", changedAPI, 50, 1, "", nil},
		{"the same, p99", changedAPI, 99, 1, "", nil},
		{"answers of old endpoints after that", stale, 50, 0, "0", under(1)},
		{"new connections/s with one Service", rateOne, 50, 0, "", nil},
		{"new connections/s through the last Service", rateLast, 50, 0, "", nil},
		{"the last / one", rateKept, 50, 2, ">= 0.9", atLeast(0.9)},
		{"churn: changes/s", churnChanges, 50, 0, "", nil},
		{"churn: connections to one Service", churnAsked, 50, 0, "", nil},
		{"churn: connections failed", churnFailed, 50, 0, "0", under(1)},
		{"churn: connection and answer, ms, p50", churnLatency, 50, 1, "", nil},
		{"churn: the same, p99", churnLatency, 99, 1, "", nil},
		{"churn: CPU, % of one processor", churnCPU, 50, 0, "", nil},
		{"resident memory in the end, MB", endRSS, 50, 0, "< 200", under(200)},
		{"greatest resident memory, MB", endPeak, 50, 0, "", nil},
		{"CPU time in all, s", endCPU, 50, 1, "", nil},
	}
}
