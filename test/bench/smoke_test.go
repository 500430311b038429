package bench

import (
	"slices"
	"testing"
	"time"
)

// set gives a flag another value for one test.
func set[T any](t *testing.T, flag *T, value T) {
	before := *flag
	*flag = value
	t.Cleanup(func() { *flag = before })
}

// Every workload runs through usher, and one through every path, for the shortest time that the
// programs know: whether a measurement can be made, not what comes out.
func TestWorkloads(t *testing.T) {
	set(t, duration, time.Second)
	set(t, warmUp, 0)
	set(t, tries, 1)
	set(t, idle, 50)
	set(t, besides, 50)
	set(t, services, 20)
	r := newTCPReport()
	for i, turn := range tcpTurns() {
		for _, p := range turn.paths {
			if i > 0 && slices.ContainsFunc(paths, func(other path) bool { return other.name == p.name }) && p.name != "usher" {
				continue
			}
			t.Run(turn.load+"/"+p.name, func(t *testing.T) { tryWorkload(t, r, turn, p) })
		}
	}
}

func tryWorkload(t *testing.T, r *Report, turn turn, p path) {
	if err := installed(turn.proto.programs...); err != nil {
		t.Skip(err)
	}
	if p.program != "" {
		if err := installed(p.program); err != nil {
			t.Skip(err)
		}
	}
	values, err := measurePath(t, turn, p)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range values {
		if !slices.ContainsFunc(r.columns, func(c column) bool { return c.name == name }) {
			t.Errorf("no column for %s", name)
		}
		if v < 0 && name != pssEach && name != rssEachConn && name != slabEachConn { // these may shrink
			t.Errorf("%s is %v", name, v)
		}
	}
	for _, name := range []string{requestRate, connectionRate, bulkRate} {
		if v, ok := values[name]; ok && v < 1e-3 {
			t.Errorf("%s is %v", name, v)
		}
	}
	if n, ok := values[held]; ok && n != 50 {
		t.Errorf("%v connections held of 50", n)
	}
}
