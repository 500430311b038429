package load

import (
	"encoding/json"
	"flag"
	"slices"
	"strings"
	"time"
)

var upgrades = flag.Int("upgrades", 2, "how often usher is upgraded under load")

// A Carrier brings all that one usher serves to the next one. Its methods fail the test when
// they cannot.
type Carrier interface {
	// Start starts the first usher, which logs as JSON, and returns when it is ready.
	Start()
	// Upgrade returns when the next usher serves. It may be the same process.
	Upgrade()
	// Log is what all of them have written so far.
	Log() string
	// Stop has the last one end.
	Stop()
}

// UnderLoad upgrades usher twice in a row, or as often as -upgrades says. Whoever talks through
// it meanwhile sees nothing of that. The name is that of the line in the table.
func UnderLoad(s *Site, name string, by Carrier) {
	s.t.Helper()
	by.Start()
	l := Begin(s, Whole)
	dnsperf := l.startDNSPerf()
	held, rules := l.held(), s.rules()
	row := l.Renew(name, *upgrades, func() error {
		by.Upgrade()
		return nil
	})
	if got := s.Status().Upgrades; got != *upgrades {
		s.t.Errorf("usher has counted %d upgrades, want %d", got, *upgrades)
	}
	if now := s.rules(); now != rules {
		s.t.Errorf("the rules were\n%s\nand are\n%s", rules, now)
	}
	l.cornersAreAsTheyWere()
	row.dnsperf = dnsperf.end()
	l.Tell()
	held.areTold(s, by.Log)
	if row.Told = Pauses(by.Log()); len(row.Told) != *upgrades {
		s.t.Errorf("usher tells of %d pauses, want %d: %v", len(row.Told), *upgrades, row.Told)
	}
	for line := range strings.Lines(by.Log()) {
		if strings.Contains(line, `"level":"error"`) {
			s.t.Error(line)
		}
	}
	row.Record()
	by.Stop()
	s.LeavesNothing()
}

// settling is how long it takes until all buffers are full of readers that stall: while they are
// filled streams pause for 200 ms, whatever is between them.
const settling = 3 * time.Second

// Renew has usher, or another proxy, renewed so often, and looks at each time from half a second
// before to half a second after it.
func (l *Load) Renew(name string, times int, renew func() error) *Row {
	l.site.t.Helper()
	row := &Row{Name: name, load: l}
	l.Pause(settling)
	l.gap.take()
	for n := range times {
		l.Pause(500 * time.Millisecond)
		before, _ := l.gap.take(), l.delay.take()
		if err := renew(); err != nil {
			l.site.t.Fatal(err)
		}
		l.Pause(500 * time.Millisecond)
		row.before, row.pauses, row.delays = append(row.before, before), append(row.pauses, l.gap.take()), append(row.delays, l.delay.take())
		l.site.t.Logf("%s %d: streams paused for %v (before: %v), a new connection took %v", name, n+1,
			row.pauses[n].Round(time.Millisecond), before.Round(time.Millisecond), row.delays[n].Round(time.Millisecond))
	}
	return row
}

// Pauses are those that usher tells of in its log, between the last that one process did for a
// connection and the first that the next one does.
func Pauses(log string) (all []time.Duration) {
	for line := range strings.Lines(log) {
		var told struct {
			Pause *float64 `json:"pause_ms"`
		}
		if json.Unmarshal([]byte(line), &told) == nil && told.Pause != nil {
			all = append(all, time.Duration(*told.Pause*float64(time.Millisecond)))
		}
	}
	return all
}

// rules are those of iptables, without counters.
func (s *Site) rules() string {
	s.t.Helper()
	var list []string
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(s.Run(program)) {
			if strings.HasPrefix(line, "-A") {
				list = append(list, line)
			}
		}
	}
	slices.Sort(list)
	return strings.Join(list, "")
}
