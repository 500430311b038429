package bench

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

// BenchmarkSeen measures what it costs that usher tells of connections: not at all, by a line
// in the log each, and to observers besides. What these spend themselves does not count, but
// what usher spends on them does.
func BenchmarkSeen(b *testing.B) {
	r := newSeenReport()
	for _, t := range seenTurns() {
		inTurn(b, r, t)
	}
	publish(b, r)
}

func newSeenReport() *Report {
	return &Report{
		name:    "seen",
		columns: []column{{requestRate, 0}, {cpuRequest, 2}, {connectionRate, 0}, {newP99, 0}, {cpuConnection, 1}, {p50, 0}, {p99, 0}, {others, 0}},
		comparisons: []comparison{
			{column: cpuRequest, path: unlogged}, {column: cpuConnection, path: unlogged},
			{column: cpuRequest, path: logged}, {column: cpuConnection, path: logged},
		},
	}
}

const (
	unlogged = "unlogged"
	logged   = "logged"
	observed = "observed"
	// observers are those who follow all records.
	observers = 5
)

func seenTurns() []turn {
	paths := []path{
		{name: unlogged, start: func(l *lab) route { return startUsherSeen(l, "--log-connections=off", "--ring-size=1") }},
		{name: logged, start: func(l *lab) route { return startUsherSeen(l) }},
		{name: observed, start: func(l *lab) route {
			rt := startUsherSeen(l)
			l.observe(rt)
			return rt
		}},
	}
	return []turn{
		{load: "seen-requests", proto: httpProtocol, paths: paths, rounds: *rounds, of: requestsOf(32)},
		{load: "seen-connections", proto: httpProtocol, paths: paths, rounds: *rounds, of: measureConnections},
	}
}

func startUsherSeen(l *lab, flags ...string) route {
	l.socket = filepath.Join(l.t.TempDir(), "usher.sock")
	return startUsherWith(l, l.manifest("servers", l.proto.service.Addr()), append(flags, "--admin-socket="+l.socket)...)
}

// observe has observers follow the usher of a route.
func (l *lab) observe(rt route) {
	l.t.Helper()
	netns.Eventually(l.t, "the admin socket", func() error {
		_, err := os.Stat(l.socket)
		return err
	})
	for range observers {
		l.launch(l.NS, os.DevNull, os.Getenv("USHER_TEST_BINARY"), "observe", "--follow", "--last=0", "--output=json", "--admin-socket="+l.socket)
	}
}

func TestSeen(t *testing.T) {
	set(t, duration, time.Second)
	set(t, warmUp, 0)
	set(t, tries, 1)
	r := newSeenReport()
	for _, turn := range seenTurns() {
		for _, p := range turn.paths {
			t.Run(turn.load+"/"+p.name, func(t *testing.T) { tryWorkload(t, r, turn, p) })
		}
	}
}
