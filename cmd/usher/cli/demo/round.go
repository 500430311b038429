package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/usher-proxy/usher/proxier/observe"
)

// round does what the demo invites people to do, and checks what it sees.
type round struct {
	out     io.Writer
	folder  string
	records chan *observe.Record
	client  http.Client
}

// patience bounds every wait of the round.
const patience = 10 * time.Second

func newRound(out io.Writer, folder string) *round {
	return &round{
		out: out, folder: folder,
		records: make(chan *observe.Record, 1024),
		// Each request has to be a connection of its own.
		client: http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

// seen is told of every connection's end. Nobody listens unless the round runs.
func (r *round) seen(record *observe.Record) {
	select {
	case r.records <- record:
	default:
	}
}

// run takes every step and fails if one of them did.
func (r *round) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(context.Context) (saw string, err error)
	}{
		{"web: 9 requests are spread over three endpoints", r.spread},
		{"flaky: 9 requests all succeed, though one endpoint is dead", r.retry},
		{"echo: 1 MiB comes back whole after the client's half-close", r.halfClose},
		{"echo by UDP: a client keeps its endpoint, and three clients have three", r.datagrams},
		{"flaky by UDP: no datagram of 9 clients is lost, though one endpoint is dead", r.noneLost},
		{"empty: a connect is refused at once", r.refused},
		{"sticky: a client stays with one endpoint, on all addresses of the Service", r.sticky},
		{"web: an endpoint taken out of its manifest is used no more", r.change},
	}
	var failed int
	for _, step := range steps {
		saw, err := step.do(ctx)
		if err != nil {
			failed++
			fmt.Fprintf(r.out, "FAIL  %s\n      %v\n", step.name, err)
			continue
		}
		fmt.Fprintf(r.out, "ok    %s\n      %s\n", step.name, saw)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d steps of the demo failed", failed, len(steps))
	}
	return nil
}

func (r *round) spread(ctx context.Context) (string, error) {
	answers, _, err := r.requests(ctx, "127.96.0.10:8080", 9)
	if err != nil {
		return "", err
	}
	if len(answers) != 3 {
		return "", fmt.Errorf("want three endpoints to answer, got %s", tally(answers))
	}
	return tally(answers), nil
}

func (r *round) retry(ctx context.Context) (string, error) {
	answers, records, err := r.requests(ctx, "127.96.0.11:8080", 9)
	if err != nil {
		return "", err
	}
	var retried int
	for _, record := range records {
		if len(record.Attempts) == 2 && record.Attempts[0].Errno == "ECONNREFUSED" {
			retried++
		}
	}
	if retried == 0 {
		return "", errors.New("no record tells of a second attempt after ECONNREFUSED")
	}
	return fmt.Sprintf("%s; %d of 9 on the second attempt, after ECONNREFUSED", tally(answers), retried), nil
}

func (r *round) halfClose(ctx context.Context) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", "127.96.0.12:7007")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		written <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	received, err := io.ReadAll(conn)
	if err = errors.Join(err, <-written); err != nil {
		return "", err
	}
	if !bytes.Equal(sent, received) {
		return "", fmt.Errorf("sent %d bytes and got other %d back", len(sent), len(received))
	}
	record, err := r.record(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("record: bytes_in=%d bytes_out=%d reason=%s", record.BytesIn, record.BytesOut, record.Reason), nil
}

func (r *round) datagrams(ctx context.Context) (string, error) {
	const clients, each = 3, 5
	answers := map[string]int{}
	for range clients {
		names, err := ask(ctx, "127.96.0.12:7007", each)
		if err != nil {
			return "", err
		}
		if len(names) != 1 {
			return "", fmt.Errorf("want one endpoint for one client, got %s", tally(names))
		}
		for name, n := range names {
			answers[name] += n
		}
	}
	if len(answers) != clients {
		return "", fmt.Errorf("want three endpoints, got %s", tally(answers))
	}
	return tally(answers), nil
}

func (r *round) noneLost(ctx context.Context) (string, error) {
	answers := map[string]int{}
	for range 9 {
		names, err := ask(ctx, "127.96.0.11:7007", 1)
		if err != nil {
			return "", err
		}
		for name, n := range names {
			answers[name] += n
		}
	}
	record, err := r.record(ctx)
	if err != nil {
		return "", err
	}
	if record.Reason != observe.BackendRefused {
		return "", fmt.Errorf("want a record of the dead endpoint, got %q", record.Reason)
	}
	return fmt.Sprintf("%s; record: %s", tally(answers), record.Sentence()), nil
}

// ask sends datagrams from one port, one after another, and returns how often each
// backend answered.
func ask(ctx context.Context, addr string, n int) (map[string]int, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	names := map[string]int{}
	buf := make([]byte, 1500)
	for i := range n {
		if _, err := fmt.Fprintf(conn, "hello %d", i); err != nil {
			return nil, err
		}
		size, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		name, text, _ := strings.Cut(string(buf[:size]), " ")
		if text != fmt.Sprintf("hello %d", i) {
			return nil, fmt.Errorf("sent hello %d, got %q back", i, text)
		}
		names[name]++
	}
	return names, nil
}

func (r *round) refused(ctx context.Context) (string, error) {
	start := time.Now()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", "127.96.0.13:8080")
	if err == nil {
		conn.Close()
		return "", errors.New("the connect succeeded, though there is no endpoint")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return "", fmt.Errorf("want ECONNREFUSED, got %w", err)
	}
	return fmt.Sprintf("ECONNREFUSED after %s", time.Since(start).Round(10*time.Microsecond)), nil
}

func (r *round) sticky(ctx context.Context) (string, error) {
	all := map[string]int{}
	addrs := []string{"127.96.0.14:8080", "127.96.1.14:8080", "127.0.0.1:30014"}
	for _, addr := range addrs {
		answers, _, err := r.requests(ctx, addr, 3)
		if err != nil {
			return "", err
		}
		for name, n := range answers {
			all[name] += n
		}
	}
	if len(all) != 1 {
		return "", fmt.Errorf("want one endpoint, got %s", tally(all))
	}
	return fmt.Sprintf("%s, at %s", tally(all), strings.Join(addrs, ", ")), nil
}

// change edits a manifest as a person would and waits for it to take effect.
func (r *round) change(ctx context.Context) (string, error) {
	file := filepath.Join(r.folder, "web.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	gone := "  - addresses: [127.97.0.3]\n    targetRef: {kind: Pod, name: web-3}\n"
	edited := strings.Replace(string(text), gone, "", 1)
	if err := os.WriteFile(file, []byte(edited), 0o644); err != nil {
		return "", err
	}
	start := time.Now()
	for time.Since(start) < patience {
		answers, _, err := r.requests(ctx, "127.96.0.10:8080", 9)
		if err != nil {
			return "", err
		}
		if answers["web-3"] == 0 {
			return fmt.Sprintf("after %s: %s", time.Since(start).Round(time.Millisecond), tally(answers)), nil
		}
	}
	return "", errors.New("the endpoint that was taken out still gets connections")
}

// requests sends n requests one after another, and returns how often each
// backend answered, and the records.
func (r *round) requests(ctx context.Context, addr string, n int) (map[string]int, []*observe.Record, error) {
	answers := map[string]int{}
	var records []*observe.Record
	for range n {
		answer, err := r.get(ctx, "http://"+addr)
		if err != nil {
			return nil, nil, err
		}
		name, _, _ := strings.Cut(answer, " ")
		answers[name]++
		record, err := r.record(ctx)
		if err != nil {
			return nil, nil, err
		}
		records = append(records, record)
	}
	return answers, records, nil
}

func (r *round) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// record waits for the next connection record.
func (r *round) record(ctx context.Context) (*observe.Record, error) {
	select {
	case record := <-r.records:
		return record, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(patience):
		return nil, errors.New("a connection ended without a record")
	}
}

func tally(answers map[string]int) string {
	var words []string
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		words = append(words, fmt.Sprintf("%s %d", name, answers[name]))
	}
	return strings.Join(words, ", ")
}
