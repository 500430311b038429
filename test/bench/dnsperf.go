package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A load is a number of clients, each a socket, that ask by turns.
type load struct {
	name    string
	clients int
}

// A client keeps its port, and so its session, from the warm-up to the end of a measurement.
const firstPort = 20000

// asFastAsAnswered is the rate of a run that sends a query whenever one was answered.
const asFastAsAnswered = 0

// dnsperf puts a load on an address for a time: rate queries a second. At most 100 queries wait
// for their answers at a time, and one that waits for a second counts as lost.
func (l *lab) dnsperf(addr netip.AddrPort, ld load, rate int, d time.Duration) (Run, error) {
	dir := l.t.TempDir()
	args := []string{
		"-s", addr.Addr().String(), "-p", strconv.Itoa(int(addr.Port())),
		"-d", l.write(dir, "queries", hostname+" "+recordType+"\n"),
		"-c", strconv.Itoa(ld.clients), "-x", strconv.Itoa(firstPort), "-T", "1",
		"-q", "100", "-t", "1", "-l", strconv.FormatFloat(d.Seconds(), 'f', -1, 64),
		"-v", // the latency of each query: costs some 1 % of the rate, on all paths
	}
	if rate != asFastAsAnswered {
		args = append(args, "-Q", strconv.Itoa(rate))
	}
	// To a file, to be read later: a reader would take its share of the processors.
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return Run{}, err
	}
	defer output.Close()
	ctx, cancel := context.WithTimeout(context.Background(), d+startPatience)
	defer cancel()
	c := l.client.Command(ctx, "dnsperf", args...)
	var stderr bytes.Buffer
	c.Stdout, c.Stderr = output, &stderr
	if err := c.Run(); err != nil {
		return Run{}, fmt.Errorf("%s: %w\n%s", c, cmp.Or(ctx.Err(), err), stderr.Bytes())
	}
	return parseOutput(output.Name())
}

// A Run is what one run of dnsperf found.
type Run struct {
	Sent, Completed int
	QPS             float64       // queries answered a second
	P50, P99        time.Duration // of those answered
}

// Lost is the part of the queries without an answer, in percent.
func (r Run) Lost() float64 { return 100 * float64(r.Sent-r.Completed) / float64(r.Sent) }

func parseOutput(path string) (Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return Run{}, err
	}
	defer f.Close()
	run, err := parseRun(bufio.NewScanner(f))
	if err != nil {
		return run, fmt.Errorf("output of dnsperf: %w", err)
	}
	return run, nil
}

// parseRun reads what dnsperf -v writes: lines such as
//
//	> NOERROR whoami.test TXT 0.000029
//	  Queries sent:         206762
func parseRun(lines *bufio.Scanner) (r Run, err error) {
	var latencies []time.Duration
	for lines.Scan() && err == nil {
		if answer, ok := strings.CutPrefix(lines.Text(), "> "); ok {
			latencies, err = appendLatency(latencies, answer)
		} else {
			err = r.parseStatistic(lines.Text())
		}
	}
	if err = errors.Join(err, lines.Err()); err != nil {
		return r, err
	}
	if len(latencies) == 0 || len(latencies) != r.Completed || r.QPS == 0 {
		return r, fmt.Errorf("%d answers, %d of %d queries completed", len(latencies), r.Completed, r.Sent)
	}
	slices.Sort(latencies)
	r.P50, r.P99 = quantile(latencies, 0.50), quantile(latencies, 0.99)
	return r, nil
}

func (r *Run) parseStatistic(line string) (err error) {
	name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
	value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	switch name {
	case "Queries sent":
		r.Sent, err = strconv.Atoi(value)
	case "Queries completed":
		r.Completed, err = strconv.Atoi(value)
	case "Queries per second":
		r.QPS, err = strconv.ParseFloat(value, 64)
	}
	return err
}

// appendLatency reads a line about one query: the code of the answer, and last the latency in
// seconds. T and I stand for queries without an answer, which have none.
func appendLatency(latencies []time.Duration, line string) ([]time.Duration, error) {
	code, rest, _ := strings.Cut(line, " ")
	switch code {
	case "T", "I":
		return latencies, nil
	case "NOERROR":
		seconds, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		return append(latencies, time.Duration(seconds*float64(time.Second))), err
	}
	return nil, fmt.Errorf("an answer that is none: %q", line)
}

// quantile is the smallest value that at least a part of all does not exceed.
func quantile(sorted []time.Duration, part float64) time.Duration {
	return sorted[max(int(math.Ceil(part*float64(len(sorted)))), 1)-1]
}

// raiseFileLimit lets this process and its children open as many files as they may: some need
// one for each of many clients.
func raiseFileLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
