package scale

import (
	"net/netip"
	"slices"
	"testing"
)

func TestPercentile(t *testing.T) {
	f := newFigures("usher")
	for i := range 100 {
		f.add("hundred", float64((i*37)%100))
	}
	f.add("two", 4, 2)
	for _, c := range []struct {
		name string
		p    int
		want float64
	}{{"hundred", 50, 49.5}, {"hundred", 99, 99}, {"two", 50, 3}, {"two", 99, 4}} {
		if got := f.percentile(c.name, c.p); got != c.want {
			t.Errorf("p%d of %s is %v, want %v", c.p, c.name, got, c.want)
		}
	}
}

// What is wanted is met or not, with kube-proxy's figure and without.
func TestCells(t *testing.T) {
	r := &report{plan: plan{services: 10}, usher: newFigures("usher"), kubeProxy: newFigures("kube-proxy")}
	r.usher.add(startTime, 2)
	r.usher.add(fill, 3)
	r.kubeProxy.add(startTime, 7)
	got := map[string][]string{}
	for _, row := range rows(10) {
		if cells := r.cells(row); cells != nil {
			got[row.figure] = cells[1:]
		}
	}
	want := map[string][]string{
		startTime: {"2.00", "7.00", "3.50", "3 times faster", "yes"},
		fill:      {"3.00", "-", "-", "< 2", "NO"},
	}
	for name, cells := range want {
		if !slices.Equal(got[name], cells) {
			t.Errorf("%s: %q, want %q", name, got[name], cells)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("rows that were not measured: %v", got)
	}
}

// No two endpoints share an address, whatever the number of Services.
func TestEndpointsOfTheLargestPlan(t *testing.T) {
	const last = number(maxServices + 2*maxServices/100)
	before := netip.Addr{}
	for g := range generation(2) {
		for _, n := range []number{0, 1, last} {
			for i := range perService {
				a := n.endpoint(i, g)
				if !backends.Contains(a) || !before.Less(a) || generationOf(a) != g {
					t.Errorf("endpoint %d of %s in generation %d is %s, after %s; it is of generation %d", i, n.name(), g, a, before, generationOf(a))
				}
				before = a
			}
		}
	}
	if !netip.MustParsePrefix("10.96.0.0/16").Contains(last.vip().Addr()) {
		t.Errorf("the last VIP is %s", last.vip())
	}
}
