package bench

import (
	"testing"
	"time"
)

const wrkOutput = `Running 2s test @ http://10.96.0.10:80/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   705.55us  444.19us  19.71ms   96.87%
    Req/Sec    45.94k     2.12k   48.52k    90.00%
  Latency Distribution
     50%  655.00us
     75%  743.00us
     90%    0.86ms
     99%    1.21s 
  91520 requests in 2.00s, 13.79MB read
`

func TestParseHTTPRun(t *testing.T) {
	run, err := parseHTTPRun(wrkOutput + "Requests/sec:  45741.05\nTransfer/sec:      6.89MB\n")
	want := HTTPRun{Requests: 91520, Rate: 45741.05, P50: 655 * time.Microsecond, P99: 1210 * time.Millisecond}
	if err != nil || run != want {
		t.Errorf("%+v, %v; want %+v", run, err, want)
	}
}

// What must not count as a fast run.
func TestParseFailedHTTPRun(t *testing.T) {
	const rate = "Requests/sec:  45741.05\n"
	for name, output := range map[string]string{
		"nothing":       "",
		"cut off":       wrkOutput,
		"no latency":    "  91520 requests in 2.00s, 13.79MB read\n" + rate,
		"socket errors": wrkOutput + "  Socket errors: connect 0, read 1, write 0, timeout 0\n" + rate,
		"refused":       wrkOutput + "  Non-2xx or 3xx responses: 91520\n" + rate,
		"no number":     wrkOutput + "Requests/sec:  nan.\n",
	} {
		if run, err := parseHTTPRun(output); err == nil {
			t.Errorf("%s: %+v", name, run)
		}
	}
}
