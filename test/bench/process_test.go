package bench

import (
	"os"
	"testing"
	"time"

	"github.com/usher-proxy/usher/test/netns"
)

func TestParseStat(t *testing.T) {
	const stat = "4711 (a (b) c) S 1 4700 4700 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 7 0 100 123456 25 18446744073709551615\n"
	want := process{parent: 1, group: 4700, cpu: 2 * time.Second, children: time.Second / 2, rss: 25 * int64(os.Getpagesize())}
	if pid, p, err := parseStat([]byte(stat)); err != nil || pid != 4711 || p != want {
		t.Errorf("%d, %+v, %v; want %+v", pid, p, err, want)
	}
	for _, bad := range []string{
		"", "4711 (a) S 1",
		"4711 (a) S 1 x 4700 0 -1 4194560 1 2 3 4 150 50 8 9 20 0 7 0 100 123456 25",
		"x (a) S 1 4700 4700 0 -1 4194560 1 2 3 4 150 50 8 9 20 0 7 0 100 123456 25",
	} {
		if _, p, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

func TestDescends(t *testing.T) {
	all := map[int]process{1: {}, 10: {parent: 1}, 11: {parent: 10}, 12: {parent: 11}, 20: {parent: 1}, 30: {parent: 31}, 31: {parent: 30}}
	for pid, want := range map[int]bool{1: false, 10: true, 11: true, 12: true, 20: false, 30: false, 99: false} {
		if descends(all, pid, 10) != want {
			t.Errorf("%d: not %v", pid, want)
		}
	}
}

// What this program does is not done by others.
func TestOwnWorkIsNotOthers(t *testing.T) {
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	if !descends(all, os.Getpid(), os.Getpid()) || descends(all, os.Getppid(), os.Getpid()) {
		t.Errorf("process %d, child of %d, is not told from others", os.Getpid(), os.Getppid())
	}
}

// The time that was disturbed least counts, and the first quiet one is the last.
func TestQuietly(t *testing.T) {
	limit := *quiet
	defer func() { *quiet = limit }()
	for _, c := range []struct {
		quiet float64
		runs  int
	}{{-1, 3}, {1e9, 1}} {
		*quiet = c.quiet
		runs := 0
		values, err := quietly(3, func() (map[string]float64, error) {
			runs++
			return map[string]float64{"run": float64(runs)}, nil
		})
		if _, ok := values[others]; err != nil || runs != c.runs || values["run"] == 0 || !ok {
			t.Errorf("limit %v: %d runs, %v, %v", c.quiet, runs, values, err)
		}
	}
}

func TestParseSlab(t *testing.T) {
	const slabinfo = `slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>
UDP                  10     24   1344   24    8 : tunables    0    0    0 : slabdata      1      1      0
ext4_inode_cache   9999   9999   1100   29    8 : tunables    0    0    0 : slabdata      1      1      0
sock_inode_cache      5     39    832   39    8 : tunables    0    0    0 : slabdata      1      1      0
`
	if n, err := parseSlabinfo(slabinfo); n != 10*1344+5*832 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := parseSlabinfo("UDP ten 24 1344"); err == nil {
		t.Errorf("%d bytes of what is no number", n)
	}
	if n, err := kibibytes("MemFree: 7 kB\nSlab:    57824 kB\nSReclaimable: 5 kB\n", "Slab:"); n != 57824<<10 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := kibibytes("MemFree: 7 kB\n", "Slab:"); err == nil {
		t.Errorf("%d bytes of nothing", n)
	}
}

// What a program has had others do for it may end while it is measured.
func TestHelpersThatEnd(t *testing.T) {
	node := netns.NewNode(t, "node")
	program := node.Command(t.Context(), "sh", "-c", "while :; do ls / >/dev/null; done")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := usageOf(program); err != nil {
			t.Fatal(err)
		}
		if _, err := proportionalOf(program); err != nil {
			t.Fatal(err)
		}
	}
}
