package proxier

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"sigs.k8s.io/yaml"

	"github.com/usher-proxy/usher/proxier/observe"
	"github.com/usher-proxy/usher/proxier/source"
)

// exported are the labels of each metric of a Proxier that has served something, also of
// those that a program has beside it. A histogram has the names of its series.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b := newBackend(t)
	s := newScene(t, func(c *Config) {
		c.Registry, c.Source = registry, contacted{c.Source.(*scene).memory}
	})
	tcp, udp := testVIP(1), testVIP(2)
	s.set(append(with(service("web", tcp), b.addr), datagramsTo("dns", udp, packetEcho(t))...)...)
	s.served(tcp)
	s.answered(udp)
	s.proxier.observed.Port("default", "web", "", "tcp").Ejected("connections")
	s.proxier.metrics.accept.WithLabelValues("EMFILE")
	s.stop() // sessions have ended now
	s.proxier.metrics.problems.WithLabelValues("Example")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, f := range families {
		names := []string{f.GetName()}
		if f.Metric[0].Histogram != nil {
			names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
		}
		labels := []string{"job", "instance"} // of Prometheus itself
		if f.Metric[0].Histogram != nil {
			labels = append(labels, "le")
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				labels = append(labels, l.GetName())
			}
		}
		for _, name := range names {
			all[name] = labels
		}
	}
	return all
}

// contacted is a source that has an API server.
type contacted struct{ *memory }

func (contacted) Watches() []source.Watch {
	return []source.Watch{{Resource: "services", LastContact: time.Now(), Synced: true, Lists: 1}}
}

func (contacted) LastState() (source.LastState, bool) { return source.LastState{File: "f"}, true }

var (
	promStrings  = regexp.MustCompile(`"[^"]*"`)
	promRanges   = regexp.MustCompile(`\[[^\]]*\]`)
	promMatchers = regexp.MustCompile(`\{([^}]*)\}`)
	promMatcher  = regexp.MustCompile(`^\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*$`)
	promLists    = regexp.MustCompile(`\b(by|without|on|ignoring)\s*\(([^)]*)\)`)
	promNames    = regexp.MustCompile(`[A-Za-z_:][\w:]*\s*\(?`)
	promOperator = regexp.MustCompile(`\b(and|or|unless)\b|[<>=!]=|[-+*/%^<>]`)
	// promFunctions are those that the examples use.
	promFunctions = []string{"sum", "max", "topk", "rate", "increase", "histogram_quantile", "time", "vector"}
)

// checkPromQL checks what can be checked of an expression without Prometheus: that all
// metrics exist and have the labels that are asked for, that it has matching parentheses
// and never leaves it to the reader's memory which operator comes first.
func checkPromQL(exported map[string][]string, expr string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	rest := promMatchers.ReplaceAllString(promRanges.ReplaceAllString(expr, ""), "")
	rest = promStrings.ReplaceAllString(rest, "")
	listed := promLists.ReplaceAllString(rest, "")

	var metrics []string
	for _, name := range promNames.FindAllString(listed, -1) {
		function, called := strings.CutSuffix(name, "(")
		function = strings.TrimSpace(function)
		switch {
		case slices.Contains([]string{"and", "or", "unless"}, function):
		case called && slices.Contains(promFunctions, function): // of rate (x) too
		case slices.Contains(promFunctions, function) && strings.Contains(listed, function+" "): // sum by (…) (…)
		case called:
			fault("there is no function %s", function)
		case exported[function] == nil:
			fault("there is no metric %s", function)
		default:
			metrics = append(metrics, function)
		}
	}
	if len(metrics) == 0 {
		fault("it has no metric")
	}
	hasLabel := func(label string) bool {
		return slices.ContainsFunc(metrics, func(m string) bool { return slices.Contains(exported[m], label) })
	}
	for _, list := range promLists.FindAllStringSubmatch(rest, -1) {
		for label := range strings.SplitSeq(list[2], ",") {
			if label = strings.TrimSpace(label); !hasLabel(label) {
				fault("no metric here has the label %q", label)
			}
		}
	}
	for _, place := range promMatchers.FindAllStringSubmatchIndex(expr, -1) {
		metric := regexp.MustCompile(`[\w:]+$`).FindString(expr[:place[0]])
		for text := range strings.SplitSeq(expr[place[2]:place[3]], ",") {
			m := promMatcher.FindStringSubmatch(text)
			if m == nil {
				fault("%q is no matcher", text)
				continue
			}
			if exported[metric] != nil && !slices.Contains(exported[metric], m[1]) {
				fault("%s has no label %s", metric, m[1])
			}
			if m[1] == "reason" || m[1] == "result" {
				for value := range strings.SplitSeq(m[3], "|") {
					if observe.Reason(value).Code() == "" {
						fault("there is no reason %q", value)
					}
				}
			}
		}
	}
	return append(faults, checkParentheses(listed)...)
}

// checkParentheses allows one kind of operator between two parentheses.
func checkParentheses(expr string) (faults []string) {
	operators := []string{""} // at each depth
	for len(expr) > 0 {
		depth := len(operators) - 1
		op := promOperator.FindStringIndex(expr)
		switch c := expr[0]; {
		case c == '(':
			operators = append(operators, "")
		case c == ')' && depth == 0:
			return append(faults, "a parenthesis is closed that was not opened")
		case c == ')':
			operators = operators[:depth]
		case c == ',':
			operators[depth] = ""
		case op != nil && op[0] == 0:
			found := expr[:op[1]]
			if operators[depth] != "" && operators[depth] != found {
				faults = append(faults, fmt.Sprintf("%s and %s without parentheses", operators[depth], found))
			}
			operators[depth] = found
			expr = expr[op[1]:]
			continue
		case c == '_' || 'a' <= c && c <= 'z':
			word := regexp.MustCompile(`^\w+`).FindString(expr)
			expr = expr[len(word):]
			continue
		}
		expr = expr[1:]
	}
	if len(operators) > 1 {
		faults = append(faults, "a parenthesis is not closed")
	}
	return faults
}

// alertRules is as much of a file of rules as is checked.
type alertRules struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			For         string            `json:"for"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

// panel is a panel of a dashboard, or a row.
type panel struct {
	ID          int                      `json:"id"`
	Type        string                   `json:"type"`
	Title       string                   `json:"title"`
	Description string                   `json:"description"`
	GridPos     struct{ X, Y, W, H int } `json:"gridPos"`
	Targets     []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
}

// What is given to operators as an example works: every metric in it exists.
func TestExamplesOfMonitoring(t *testing.T) {
	all := exported(t)
	t.Run("alerts", func(t *testing.T) {
		text, err := os.ReadFile("../examples/prometheus/alerts.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var rules alertRules
		if err := yaml.UnmarshalStrict(text, &rules); err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				names[r.Alert] = true
				for _, f := range checkPromQL(all, r.Expr) {
					t.Errorf("%s: %s", r.Alert, f)
				}
				if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
					t.Errorf("%s: for: %v", r.Alert, err)
				}
				if !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
					t.Errorf("%s has the severity %q", r.Alert, r.Labels["severity"])
				}
				for _, what := range []string{"summary", "description", "runbook"} {
					if len(r.Annotations[what]) < 20 {
						t.Errorf("%s has no %s", r.Alert, what)
					}
				}
			}
		}
		if len(names) != 10 {
			t.Errorf("there are %d alerts: %v", len(names), slices.Sorted(maps.Keys(names)))
		}
	})
	t.Run("dashboard", func(t *testing.T) {
		text, err := os.ReadFile("../examples/grafana/usher.json")
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Title         string  `json:"title"`
			UID           string  `json:"uid"`
			SchemaVersion int     `json:"schemaVersion"`
			Panels        []panel `json:"panels"`
			Templating    struct {
				List []struct {
					Name, Type, Definition string
				} `json:"list"`
			} `json:"templating"`
		}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			t.Fatal(err)
		}
		if dashboard.Title == "" || dashboard.UID == "" || dashboard.SchemaVersion < 36 {
			t.Errorf("%q, %q, %d", dashboard.Title, dashboard.UID, dashboard.SchemaVersion)
		}
		checkPanels(t, all, dashboard.Panels)
		variables := map[string]bool{"__rate_interval": true}
		for _, v := range dashboard.Templating.List {
			variables[v.Name] = true
			if of := regexp.MustCompile(`^label_values\((\w+)`).FindStringSubmatch(v.Definition); v.Type == "query" && (of == nil || all[of[1]] == nil) {
				t.Errorf("variable %s is of no metric: %s", v.Name, v.Definition)
			}
		}
		for _, v := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(text), -1) {
			if !variables[v[1]] && v[1] != "__all" {
				t.Errorf("there is no variable %s", v[1])
			}
		}
	})
}

func checkPanels(t *testing.T, all map[string][]string, panels []panel) {
	t.Helper()
	ids, taken := map[int]bool{}, map[[2]int]string{}
	var rows []string
	for _, p := range panels {
		if p.Title == "" || ids[p.ID] {
			t.Errorf("panel %d %q has no title, or the number of another one", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] > 23 {
					t.Fatalf("panel %q lies over %q or outside", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if !slices.Contains([]string{"stat", "timeseries"}, p.Type) {
			t.Errorf("panel %q needs a plugin: %s", p.Title, p.Type)
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q has no description, or shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, f := range checkPromQL(all, strings.NewReplacer("$job", "ok", "$instance", "ok", "$namespace", "ok", "$service", "ok").Replace(target.Expr)) {
				t.Errorf("panel %q: %s: %s", p.Title, target.Expr, f)
			}
		}
	}
	if want := []string{"Node", "Services", "Endpoints", "UDP"}; !slices.Equal(rows, want) {
		t.Errorf("the rows are %v, want %v", rows, want)
	}
}

// What the checks are there to find.
func TestFaultsOfPromQL(t *testing.T) {
	all := map[string][]string{"a": {"job", "reason"}, "b_bucket": {"le"}}
	for expr, want := range map[string]string{
		`a`: "", `(a / b_bucket) > 1`: "", `sum by (le) (rate(b_bucket[5m])) > 0`: "", `time() - a`: "",
		`((a / b_bucket) > 0.8) and on (job) a`: "", `a{reason=~"ok|client_reset",job="x"}`: "", `histogram_quantile(0.5, sum by (le) (rate(b_bucket[1m])))`: "",
		`c`:                         "no metric c",
		`c{job="x"}`:                "no metric c",
		`a / b_bucket > 1`:          "/ and > without parentheses",
		`sum(a`:                     "not closed",
		`sum(a))`:                   "not opened",
		`median(a)`:                 "no function median",
		`a{color="red"}`:            "no label color",
		`a{reason="oh"}`:            `no reason "oh"`,
		`a{reason}`:                 "no matcher",
		`sum by (color) (a)`:        `label "color"`,
		`a > 1 and on (job) a`:      "without parentheses",
		`1 > 0`:                     "no metric",
		`sum(rate(missing[5m]))`:    "no metric missing",
		`a or missing{reason="ok"}`: "no metric missing",
	} {
		got := strings.Join(checkPromQL(all, expr), "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: found %q, want %q", expr, got, want)
		}
	}
}
