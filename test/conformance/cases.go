package conformance

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// total is the number of cases in the project's list.
const total = 75

// A Case is one rule.
type Case struct {
	Number int
	Name   string
	// Open says which part of the case usher does not serve yet, empty if none.
	// Without a run function nothing of it is served.
	Open string
	// Reference says why the case is not one for kube-proxy: what it does
	// otherwise, or cannot do. Empty if it passes.
	Reference string
	// Netfilter says what of the case exists only with iptables capture, empty if nothing.
	Netfilter string
	run       func(*World)
}

// Cases are all rules, in order of their numbers. Those that nobody has written
// yet have no run function.
func Cases() []Case {
	all := slices.Concat(basics, filters, endpointCases, policies, source, nodePortCases,
		loadBalancers, affinity, topology, health, datagrams, restarts)
	slices.SortFunc(all, func(a, b Case) int { return cmp.Compare(a.Number, b.Number) })
	return all
}

// What may become of a case.
const (
	passed     = "pass"
	failed     = "FAIL"
	open       = "open"
	skipped    = "skipped"
	notWritten = "not written"
	notRun     = "not run" // the -run flag left it out, or an earlier one ended all
)

// A result is what became of a case, and why if that is not obvious.
type result struct {
	Case
	what, why string
}

func (r result) String() string {
	if r.why == "" {
		return r.what
	}
	return fmt.Sprintf("%s (%s)", r.what, r.why)
}

// Run runs all cases with a proxy on both nodes of a World that reads its
// objects from the store, and reports what became of each. The title says what
// is tested, such as "usher (manifests)".
//
// If the environment names a folder in USHER_CONFORMANCE_RESULTS, the report is
// also put there, in a file of the title's name: a line for each case with
// number, name and result, separated by tabs.
func Run(t *testing.T, w *World, title string, store Store, proxy Proxy) {
	results := make([]result, 0, total)
	for _, c := range Cases() {
		results = append(results, result{Case: c, what: notRun})
	}
	defer func() { report(t, title, results) }() // also if the World breaks half-way
	w.begin(store, proxy)
	for i := range results {
		results[i].what, results[i].why = runCase(t, w, results[i].Case)
	}
}

func runCase(t *testing.T, w *World, c Case) (what, why string) {
	if w.proxy.Reference() {
		c.Open = "" // usher's
	}
	switch {
	case w.proxy.Reference() && c.Reference != "":
		return skipped, c.Reference
	case c.Netfilter != "" && withoutNetfilter(w.proxy):
		return skipped, c.Netfilter
	case c.run == nil && c.Open != "":
		return open, c.Open
	case c.run == nil:
		return notWritten, ""
	}
	ran := false
	ok := t.Run(fmt.Sprintf("%02d %s", c.Number, c.Name), func(t *testing.T) {
		ran = true
		c.run(w.forCase(t))
	})
	switch {
	case !ran:
		return notRun, ""
	case !ok:
		return failed, ""
	case c.Open != "":
		return open, c.Open + "; the rest passes"
	}
	return passed, ""
}

// withoutNetfilter tells whether a proxy captures without rules of iptables.
func withoutNetfilter(p Proxy) bool {
	u, ok := p.(Usher)
	return ok && u.Capture == "bind"
}

// report logs the results as a table and puts them where the environment says.
func report(t *testing.T, title string, results []result) {
	var table, lines strings.Builder
	count := map[string]int{}
	for _, r := range results {
		count[r.what]++
		fmt.Fprintf(&table, "%2d  %-90s %s\n", r.Number, r.Name, r)
		fmt.Fprintf(&lines, "%d\t%s\t%s\n", r.Number, r.Name, r)
	}
	fmt.Fprintf(&table, "conformance: %d of %d pass, %d open", count[passed], total, count[open])
	for _, what := range []string{failed, skipped, notWritten, notRun} {
		if count[what] > 0 {
			fmt.Fprintf(&table, ", %d %s", count[what], what)
		}
	}
	t.Logf("%s\n%s", title, table.String())
	if dir := os.Getenv("USHER_CONFORMANCE_RESULTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, title), []byte(lines.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}
