package handover

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

var (
	manyServices    = flag.Int("services", 1000, "Services of the benchmark")
	manyConnections = flag.Int("connections", 5000, "established connections of the benchmark")
	benchUpgrades   = flag.Int("bench-upgrades", 10, "upgrades and reloads of the benchmark")
	results         = flag.String("results", "", "folder for the table, empty for none")
)

// BenchmarkUpgrade upgrades usher while it has many Services and connections, and has HAProxy
// and nginx reload under the same load. The table has, of all upgrades:
//
//	pause-ms, pause-max    longest time without a byte on streams that are read all the
//	                       time, of 16 KiB each 10 ms: median and maximum
//	before-ms              the same pause in the second before each upgrade: what the machine
//	                       does anyway, median
//	connect-ms, -max       longest time until a new connection was answered, likewise
//	failed                 new connections without an answer
//	broken                 established connections that ended, or with other bytes than sent
//	lost                   datagrams without an answer
//	processes, rss-MB      at the end: who still has connections of before a reload goes on
//	                       beside those that came after
func BenchmarkUpgrade(b *testing.B) {
	var rows []row
	b.Run("usher", func(b *testing.B) { rows = append(rows, benchUsher(b)) })
	for _, p := range peers {
		b.Run(p.name, func(b *testing.B) {
			if _, err := exec.LookPath(p.name); err != nil {
				b.Skip(err)
			}
			rows = append(rows, benchPeer(b, p))
		})
	}
	if err := writeRows(os.Stdout, rows); err != nil {
		b.Fatal(err)
	}
	if *results == "" {
		return
	}
	f, err := os.Create(filepath.Join(*results, "upgrade.txt"))
	if err == nil {
		err = writeRows(f, rows)
		f.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// row is a line of the table.
type row struct {
	name                        string
	before                      []time.Duration // longest pause in the second before each upgrade
	pauses, connects            []time.Duration // longest in each upgrade
	answered                    int64
	failed, broken, lost, wrong int
	processes                   int
	rss                         int64
}

func writeRows(w io.Writer, rows []row) error {
	fmt.Fprintf(w, "%d Services, %d established connections, %d upgrades or reloads\n\n", *manyServices, *manyConnections, *benchUpgrades)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "upgrade\tpause-ms\tpause-max\tbefore-ms\tconnect-ms\tconnect-max\tconnections\tfailed\tbroken\tlost\tprocesses\trss-MB")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", r.name,
			median(r.pauses).Milliseconds(), slices.Max(r.pauses).Milliseconds(), median(r.before).Milliseconds(), median(r.connects).Milliseconds(), slices.Max(r.connects).Milliseconds(),
			r.answered, r.failed, r.broken, r.lost, r.processes, r.rss>>20)
	}
	return t.Flush()
}

func median(of []time.Duration) time.Duration {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}

// benchServices are those with a load, and as many more as are missing.
func benchServices(s *site) (bulk, web, database, names *service, all []*service) {
	bulk = &service{Name: "bulk", N: 1, Protocol: "TCP", Port: 7001, Pods: s.pods}
	web = &service{Name: "web", N: 2, Protocol: "TCP", Port: 7002, Pods: s.pods}
	database = &service{Name: "database", N: 3, Protocol: "TCP", Port: 7003, Pods: s.pods}
	names = &service{Name: "names", N: 8, Protocol: "UDP", Port: 7008, Pods: s.pods}
	all = []*service{bulk, web, database}
	for n := len(all); n < *manyServices; n++ {
		all = append(all, &service{Name: fmt.Sprintf("idle-%d", n), N: 100 + n, Protocol: "TCP", Port: 7002, Pods: s.pods, Only4: true, idle: true})
	}
	return bulk, web, database, names, all
}

func benchUsher(b *testing.B) row {
	s := newSite(b)
	_, _, _, names, all := benchServices(s)
	s.write("services.yaml", append(all, names)...)
	s.start("--capture=iptables")
	return bench(s, "usher", s.usher.PID, func() error {
		byCommand{}.upgrade(s, s.usher)
		b.Log(lastPause(s.usher))
		return nil
	})
}

func benchPeer(b *testing.B, p peer) row {
	s := newSite(b)
	_, _, _, _, all := benchServices(s)
	process, reload := p.start(s, all)
	return bench(s, p.name, func() int { return process.Process.Pid }, reload)
}

// bench has renew called under load.
func bench(s *site, name string, pid func() int, renew func() error) row {
	bulk, web, database, names, _ := benchServices(s)
	// The link of a routed pod has no address that REDIRECT could lead to.
	s.clients = []*netns.NS{s.clients[0], s.NS, s.Client}
	l := newLoad(s)
	for _, pod := range s.pods {
		serve(s.t, pod, web.Port, answer(pod))
		serve(s.t, pod, database.Port, databaseServer)
	}
	streams := l.streams(bulk, 50, 20)
	for _, client := range s.clients {
		s.awaitAnswer(client, web)
	}
	l.begin(bulk, streams)
	l.statements(database, 100, time.Second)
	l.statements(database, *manyConnections-100-len(streams), 20*time.Second)
	l.requests(web, 200, func(_ int, _ string, took time.Duration) { l.delay.note(took) })
	if name == "usher" {
		l.datagrams(names, 40, 20*time.Millisecond)
	}
	r := row{name: name}
	for range *benchUpgrades {
		l.pause(time.Second)
		r.before = append(r.before, time.Duration(l.gap.Load()))
		before := l.take()
		if err := renew(); err != nil {
			s.t.Fatal(err)
		}
		l.pause(time.Second)
		r.pauses, r.connects = append(r.pauses, time.Duration(l.gap.Load())), append(r.connects, time.Duration(l.delay.Load()))
		s.t.Logf("%v; before: %v", l.take(), before)
	}
	r.processes, r.rss = sizeOf(s.t, pid())
	l.end()
	r.answered = l.answered.Load()
	r.failed, r.broken, r.lost, r.wrong = l.failed.count, l.broken.count, l.lost.count, l.wrong.count
	if name == "usher" {
		l.tell()
	}
	return r
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
