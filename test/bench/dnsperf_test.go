package bench

import (
	"bufio"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRun(t *testing.T) {
	run, err := parseRun(bufio.NewScanner(strings.NewReader(`DNS Performance Testing Tool
[Status] Command line: dnsperf -s 127.0.0.1 -v
> NOERROR whoami.test TXT 0.000029
> T whoami.test TXT
> NOERROR whoami.test TXT 0.003193
> NOERROR whoami.test TXT 0.000026
Statistics:

  Queries sent:         4
  Queries completed:    3 (75.00%)
  Queries lost:         1 (25.00%)

  Response codes:       NOERROR 3 (100.00%)
  Queries per second:   103208.693087
`)))
	want := Run{Sent: 4, Completed: 3, QPS: 103208.693087, P50: 29 * time.Microsecond, P99: 3193 * time.Microsecond}
	if err != nil || run != want {
		t.Errorf("%+v, %v; want %+v", run, err, want)
	}
	if lost := run.Lost(); lost != 25 {
		t.Errorf("%v %% lost", lost)
	}
}

// What must not count as a fast run.
func TestParseFailedRun(t *testing.T) {
	const statistics = "  Queries sent: 2\n  Queries completed: 1 (50%)\n  Queries per second: 9\n"
	for name, output := range map[string]string{
		"nothing":       "",
		"refused":       "> REFUSED whoami.test TXT 0.000029\n" + statistics,
		"cut off":       "> NOERROR whoami.test TXT 0.000029\n",
		"no latency":    "> NOERROR whoami.test TXT\n" + statistics,
		"other answers": "> NOERROR whoami.test TXT 0.1\n> NOERROR whoami.test TXT 0.1\n" + statistics,
		"no answers":    "> T whoami.test TXT\n  Queries sent: 1\n  Queries completed: 0 (0%)\n  Queries per second: 0\n",
	} {
		if run, err := parseRun(bufio.NewScanner(strings.NewReader(output))); err == nil {
			t.Errorf("%s: %+v", name, run)
		}
	}
}

func TestQuantile(t *testing.T) {
	var values []time.Duration
	for i := range 1000 {
		values = append(values, time.Duration(i+1))
	}
	for part, want := range map[float64]time.Duration{0: 1, 0.5: 500, 0.99: 990, 1: 1000} {
		if got := quantile(values, part); got != want {
			t.Errorf("quantile %v: %d, want %d", part, got, want)
		}
	}
	if got := quantile(slices.Clone(values[:1]), 0.99); got != 1 {
		t.Errorf("of one value: %d", got)
	}
}
