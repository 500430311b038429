package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// An httpLoad is a number of clients that ask by turns, each on its connection.
type httpLoad struct {
	connections int
	anew        bool // a connection for each request
}

// wrk puts a load on an address for a time.
func (l *lab) wrk(addr netip.AddrPort, ld httpLoad, d time.Duration) (HTTPRun, error) {
	// wrk knows only whole seconds; others are for those who try whether all works.
	seconds := max(1, int(d.Round(time.Second)/time.Second))
	args := []string{"--latency", "-t", "1", "-c", strconv.Itoa(ld.connections),
		"-d", strconv.Itoa(seconds) + "s", "--timeout", "5s"}
	if ld.anew {
		args = append(args, "-H", "Connection: close")
	}
	ctx, cancel := context.WithTimeout(context.Background(), d+startPatience)
	defer cancel()
	c := l.client.Command(ctx, "wrk", append(args, "http://"+addr.String()+"/")...)
	out, err := c.CombinedOutput()
	if err != nil {
		return HTTPRun{}, fmt.Errorf("%s: %w\n%s", c, cmp.Or(ctx.Err(), err), out)
	}
	run, err := parseHTTPRun(string(out))
	if err != nil {
		return run, fmt.Errorf("output of wrk: %w\n%s", err, out)
	}
	return run, nil
}

// An HTTPRun is what one run of wrk found.
type HTTPRun struct {
	Requests int     // answered
	Rate     float64 // of them a second
	P50, P99 time.Duration
}

// parseHTTPRun reads what wrk --latency writes: lines such as
//
//	    50%  655.00us
//	    99%    3.21ms
//	  91520 requests in 2.00s, 13.79MB read
//	Requests/sec:  45741.05
//
// A line about errors is one: what failed must not count as fast.
func parseHTTPRun(output string) (r HTTPRun, err error) {
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		var e error
		switch {
		case fields[0] == "50%":
			r.P50, e = time.ParseDuration(fields[1])
		case fields[0] == "99%":
			r.P99, e = time.ParseDuration(fields[1])
		case fields[1] == "requests":
			r.Requests, e = strconv.Atoi(fields[0])
		case fields[0] == "Requests/sec:":
			r.Rate, e = strconv.ParseFloat(fields[1], 64)
		case fields[0] == "Socket" || fields[0] == "Non-2xx":
			e = errors.New(strings.TrimSpace(line))
		}
		err = errors.Join(err, e)
	}
	if err == nil && (r.Requests == 0 || r.Rate == 0 || r.P50 == 0 || r.P99 == 0) {
		err = errors.New("no requests, or no latency")
	}
	return r, err
}
