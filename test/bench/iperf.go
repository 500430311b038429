package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

func serveIperf(l *lab, pod *netns.Pod) {
	l.launch(pod.NS, filepath.Join(l.t.TempDir(), "output"), "iperf3", "--server", "--bind", pod.IPv4.String())
}

// askIperf is the shortest run that there is: the server serves one at a time and so cannot be
// asked with less.
func askIperf(l *lab, addr netip.AddrPort) error {
	_, err := l.iperf(addr, 2*time.Second, "--bytes", "1K", "--connect-timeout", "1000")
	return err
}

// iperfFor sends through so many connections for a time.
func (l *lab) iperfFor(addr netip.AddrPort, streams int, d time.Duration) (BulkRun, error) {
	return l.iperf(addr, d, "--parallel", strconv.Itoa(streams), "--time", strconv.FormatFloat(max(1, d.Seconds()), 'f', 0, 64))
}

func (l *lab) iperf(addr netip.AddrPort, d time.Duration, args ...string) (BulkRun, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d+startPatience)
	defer cancel()
	c := l.client.Command(ctx, "iperf3", append(args, "--json",
		"--client", addr.Addr().String(), "--port", strconv.Itoa(int(addr.Port())))...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	run, parseErr := parseBulkRun(stdout.Bytes())
	if err = cmp.Or(ctx.Err(), parseErr, err); err != nil { // what iperf3 says itself says most
		return run, fmt.Errorf("%s: %w\n%s", c, err, stderr.Bytes())
	}
	return run, nil
}

// A BulkRun is what one run of iperf3 found.
type BulkRun struct {
	Bytes int64   // that the server received
	Gbits float64 // of them a second
	Again int     // segments that were sent again
}

// parseBulkRun reads what iperf3 --json writes.
func parseBulkRun(output []byte) (BulkRun, error) {
	var document struct {
		Error string
		End   struct {
			Received struct {
				Bytes int64
				Rate  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Sent struct{ Retransmits int } `json:"sum_sent"`
		}
	}
	if err := json.Unmarshal(output, &document); err != nil {
		return BulkRun{}, fmt.Errorf("output of iperf3: %w", err)
	}
	if document.Error != "" {
		return BulkRun{}, fmt.Errorf("iperf3: %s", document.Error)
	}
	r := BulkRun{Bytes: document.End.Received.Bytes, Gbits: document.End.Received.Rate / 1e9, Again: document.End.Sent.Retransmits}
	if r.Bytes <= 0 || r.Gbits <= 0 {
		return r, errors.New("iperf3: nothing received")
	}
	return r, nil
}
