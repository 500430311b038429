package scale

import (
	"os"
	"testing"
)

// BenchmarkScale prints the figures at 10,000 Services. See the package.
func BenchmarkScale(b *testing.B) {
	p, err := fullPlan()
	if err != nil {
		b.Fatal(err)
	}
	if err := measure(b, p, needs(b, p)).publish(os.Getenv(resultsEnv)); err != nil {
		b.Fatal(err)
	}
}

// What the benchmark does is done with few Services: each figure is found, of both proxies, and
// what has nothing to do with time is as wanted.
func TestFewServices(t *testing.T) {
	p := fewPlan()
	r := measure(t, p, needs(t, p))
	if err := r.publish(t.TempDir()); err != nil {
		t.Error(err)
	}
	for _, row := range rows(p.services) {
		if len(r.usher.Samples[row.figure]) == 0 {
			t.Errorf("usher has no figure %s", row.figure)
		}
	}
	for _, f := range []*figures{r.usher, r.kubeProxy} {
		if n := f.value(answering); n != float64(p.services) {
			t.Errorf("%s: %v of %d Services answer", f.proxy, n, p.services)
		}
		for _, name := range []string{added, changed} {
			if n := len(f.Samples[name]); n != p.changes {
				t.Errorf("%s: %s has %d samples of %d", f.proxy, name, n, p.changes)
			}
		}
		if n := f.value(churnFailed); n > 0 {
			t.Errorf("%s: %v connections failed during the churn", f.proxy, n)
		}
		if n := f.value(churnAsked); n != float64(p.asking)*p.churn.Seconds() {
			t.Errorf("%s: %v connections during the churn", f.proxy, n)
		}
	}
}
