package handover

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/load"
	"github.com/usher-proxy/usher/test/netns"
)

var (
	manyServices    = flag.Int("services", 1000, "Services of the benchmark")
	manyConnections = flag.Int("connections", 5000, "established connections of the benchmark")
	benchUpgrades   = flag.Int("bench-upgrades", 10, "upgrades and reloads of the benchmark")
)

// BenchmarkUpgrade upgrades usher while it has many Services and connections, and has HAProxy
// and nginx reload under the same load. Beside [load.Columns] the table has the processes and
// their memory at the end: who still has connections of before a reload goes on beside those
// that came after.
func BenchmarkUpgrade(b *testing.B) {
	lines := []string{load.Columns + "\tprocesses\trss-MB"}
	b.Run("usher", func(b *testing.B) { lines = append(lines, benchUsher(b)) })
	for _, p := range peers {
		b.Run(p.name, func(b *testing.B) {
			if _, err := exec.LookPath(p.name); err != nil {
				b.Skip(err)
			}
			lines = append(lines, benchPeer(b, p))
		})
	}
	if err := write(os.Stdout, lines); err != nil {
		b.Fatal(err)
	}
	if *load.Results == "" {
		return
	}
	f, err := os.Create(filepath.Join(*load.Results, "upgrade.txt"))
	if err == nil {
		err = write(f, lines)
		f.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

func write(w io.Writer, lines []string) error {
	fmt.Fprintf(w, "%d Services, %d established connections\n\n", *manyServices, *manyConnections)
	return load.WriteTable(w, lines...)
}

// benchServices are those with a load, and as many more as are missing.
func benchServices(s *site) []*load.Service {
	v := load.NewServices(s.Site)
	all := []*load.Service{v.Bulk, v.Web, v.Database}
	for n := len(all); n < *manyServices; n++ {
		all = append(all, &load.Service{Name: fmt.Sprintf("idle-%d", n), N: firstIdle + n, Protocol: "TCP", Port: v.Web.Port, Pods: s.Pods, Only4: true})
	}
	return all
}

func benchUsher(b *testing.B) string {
	s := newSite(b)
	s.Write("idle.yaml", benchServices(s)[3:]...)
	s.start("--capture=iptables")
	return bench(s, "usher", load.Full, s.usher.PID, func() error {
		s.upgrade()
		return nil
	})
}

func benchPeer(b *testing.B, p peer) string {
	s := newSite(b)
	process, reload := p.start(s, benchServices(s))
	size := load.Full
	size.Sockets = 0
	return bench(s, p.name, size, func() int { return process.Process.Pid }, reload)
}

// bench has renew called under load, and returns the line of that.
func bench(s *site, name string, size load.Size, pid func() int, renew func() error) string {
	// The link of a routed pod has no address that REDIRECT could lead to.
	s.Clients = []*netns.NS{s.Clients[0], s.NS, s.Client}
	l := load.Begin(s.Site, size)
	l.Statements(l.Database, *manyConnections-size.Streams-size.Statements, 20*time.Second)
	row := l.Renew(name, *benchUpgrades, renew)
	processes, rss := sizeOf(s.t, pid())
	if s.usher == nil {
		l.End() // what they lose is in the table
	} else {
		l.Tell()
		row.Told = load.Pauses(s.usher.Log())
	}
	return fmt.Sprintf("%v\t%d\t%d", row, processes, rss>>20)
}

// sizeOf counts the processes of a group, and adds up their memory.
func sizeOf(t testing.TB, group int) (processes int, rss int64) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if pgrp, _ := strconv.Atoi(fields[2]); pgrp == group && fields[0] != "Z" {
			pages, _ := strconv.ParseInt(fields[21], 10, 64)
			processes, rss = processes+1, rss+pages*int64(os.Getpagesize())
		}
	}
	return processes, rss
}
