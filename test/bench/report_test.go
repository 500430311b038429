package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestRatio(t *testing.T) {
	base := map[int]float64{1: 100, 2: 200, 3: 300, 4: 400}
	faster := map[int]float64{1: 100 * math.Exp(0.1), 2: 200 * math.Exp(0.2), 3: 300 * math.Exp(0.3), 5: 1}
	r := ratioOf(faster, base)
	const margin = 0.2484 // 4.303 times 0.1 by the root of 3
	for what, pair := range map[string][2]float64{
		"mean": {r.Mean, math.Exp(0.2)}, "low": {r.Low, math.Exp(0.2 - margin)}, "high": {r.High, math.Exp(0.2 + margin)},
	} {
		if math.Abs(pair[0]-pair[1]) > 0.001 {
			t.Errorf("%s is %.4f, want %.4f", what, pair[0], pair[1])
		}
	}
	if r.Rounds != 3 {
		t.Errorf("%d rounds in common", r.Rounds)
	}
	if r := ratioOf(map[int]float64{1: 3}, map[int]float64{1: 2}); r != (Ratio{Rounds: 1, Mean: 1.5}) {
		t.Errorf("of one round: %+v", r)
	}
	if r := ratioOf(map[int]float64{1: 3, 2: 0}, map[int]float64{1: 0, 2: 3}); r != (Ratio{}) {
		t.Errorf("of what has none: %+v", r)
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64]map[int]float64{
		2:   {1: 9, 2: 1, 3: 2},
		1.5: {1: 9, 2: 1, 3: 2, 4: 0},
	} {
		if got := median(values); got != want {
			t.Errorf("median of %v: %v", values, got)
		}
	}
}

func TestMedianInterval(t *testing.T) {
	values := map[int]float64{}
	for n, want := range [][2]float64{{1, 1}, {1, 2}, {1, 3}, {1, 4}, {1, 5}, {1, 6}, {1, 7}, {1, 8}, {2, 8}, {2, 9}, {2, 10}, {3, 10}} {
		values[n] = float64(n + 1)
		if low, high := medianInterval(values); low != want[0] || high != want[1] {
			t.Errorf("of 1 to %d: %v to %v, want %v", n+1, low, high, want)
		}
	}
}

// A path can be compared with itself by another column.
func TestOwnBase(t *testing.T) {
	r := &Report{columns: []column{{"busy", 0}, {"alone", 0}}, comparisons: []comparison{{column: "busy", base: "alone"}}}
	r.add(Measurement{1, "load", "usher", map[string]float64{"busy": 3, "alone": 2}})
	r.add(Measurement{1, "load", "nginx", map[string]float64{"busy": 8, "alone": 2}})
	for i, want := range []float64{4, 1.5} { // nginx is first
		if ratio := r.summariesOf("load")[i].Ratios["busy / alone"]; ratio.Mean != want {
			t.Errorf("%+v, want %v", ratio, want)
		}
	}
}

// A path that was not there in one round is compared by the others.
func TestReport(t *testing.T) {
	r := &Report{
		name:        "test",
		columns:     []column{{"queries/s", 0}, {"cpu", 1}},
		comparisons: []comparison{{column: "queries/s", path: "nginx"}},
	}
	r.add(Measurement{1, "few", "usher", map[string]float64{"queries/s": 300, "cpu": 2.25}})
	r.add(Measurement{1, "few", "nginx", map[string]float64{"queries/s": 200, "cpu": 4}})
	r.add(Measurement{2, "few", "nginx", map[string]float64{"queries/s": 220, "cpu": 4}})
	r.add(Measurement{1, "many", "direct", map[string]float64{"queries/s": 400}})

	const table = `
few    queries/s  cpu  queries/s / nginx
nginx  210        4.0  -
usher  300        2.2  1.50

many    queries/s
direct  400
`
	var out bytes.Buffer
	if err := r.writeTable(&out); err != nil || strings.TrimSpace(out.String()) != strings.TrimSpace(table) {
		t.Errorf("%v\n%s", err, &out)
	}

	const lines = `round,load,path,queries/s,cpu
1,few,usher,300,2.25
1,few,nginx,200,4
2,few,nginx,220,4
1,many,direct,400,
`
	out.Reset()
	if err := r.writeCSV(&out); err != nil || out.String() != lines {
		t.Errorf("%v\n%s", err, &out)
	}

	out.Reset()
	var document struct{ Summaries []Summary }
	if err := r.writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if n := len(document.Summaries); n != 3 || document.Summaries[1].Ratios["queries/s / nginx"].Mean != 1.5 {
		t.Errorf("%s", &out)
	}
}
