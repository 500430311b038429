package reasons

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/usher-proxy/usher/proxier"
	"github.com/usher-proxy/usher/proxier/observe"
)

// scenario is something that somebody does on purpose.
type scenario struct {
	reason observe.Reason
	how    string
	change func(*proxier.Config) // nil: nothing
	run    func(*lab) *observe.Record
	// want is what the record has to say, in the order of said. A word may be several, with
	// a bar between them. More than one want: any of them.
	want []string
	// attempts are what the endpoints have answered; empty: not looked at.
	attempts string
	// also looks at more; nil: nothing.
	also func(*observe.Record) error
}

// one is for what only one record is right.
func one(want string) []string { return []string{want} }

// said is what a record says: the reason, side, phase and errno, what client and endpoint
// have done, and what was sent to each.
func said(r *observe.Record) string {
	return strings.Join([]string{
		string(r.Reason), string(r.Reason.Side()), r.Phase(), cmp.Or(r.Errno, "-"),
		r.ClientClose.String(), r.BackendClose.String(), r.SentClient.String(), r.SentBackend.String(),
	}, " ")
}

func attempts(r *observe.Record) string {
	var all []string
	for _, a := range r.Attempts {
		all = append(all, fmt.Sprintf("%s(%s)", a.Result, a.Errno))
	}
	return strings.Join(all, " ")
}

// fits says whether each word of got is one of those in want.
func fits(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	return len(g) == len(w) && !slices.ContainsFunc(g, func(word string) bool {
		allowed := w[0]
		w = w[1:]
		return !slices.Contains(strings.Split(allowed, "|"), word)
	})
}

// judge returns what is wrong with a record.
func (s *scenario) judge(r *observe.Record) (wrong []string) {
	if got := said(r); !slices.ContainsFunc(s.want, func(want string) bool { return fits(got, want) }) {
		wrong = append(wrong, "want "+strings.Join(s.want, " or "))
	}
	if got := attempts(r); s.attempts != "" && !fits(got, s.attempts) {
		wrong = append(wrong, fmt.Sprintf("attempts %s, want %s", got, s.attempts))
	}
	if s.also != nil {
		if err := s.also(r); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return wrong
}

// Every reason of the closed set is produced on purpose, and recognised.
func TestEveryReasonIsRecognised(t *testing.T) {
	all := slices.Concat(clientScenarios, endpointScenarios, attemptScenarios, timerScenarios, refusalScenarios, resourceScenarios, endingScenarios, udpScenarios)
	slices.SortStableFunc(all, func(a, b scenario) int { return strings.Compare(string(a.reason), string(b.reason)) })
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-21s %-62s %-66s %s\n", "REASON", "SCENARIO", "GOT: reason side phase errno client_close backend_close sent_client sent_backend", "VERDICT")
	right := 0
	for _, s := range all {
		verdict, got := "no record", ""
		t.Run(string(s.reason)+"/"+s.how, func(t *testing.T) {
			l := newLab(t, s.change)
			r := s.run(l)
			got, verdict = said(r), "right"
			if wrong := s.judge(r); len(wrong) > 0 {
				verdict = "WRONG: " + strings.Join(wrong, "; ")
				t.Errorf("%s\n%s\n%s", got, verdict, r.Sentence())
			}
			t.Log(r.Sentence())
		})
		if verdict == "right" {
			right++
		}
		fmt.Fprintf(table, "%-21s %-62s %-66s %s\n", s.reason, s.how, got, verdict)
	}
	t.Logf("%d of %d scenarios are told right (%d %%)\n%s", right, len(all), 100*right/max(len(all), 1), table)
	for _, r := range observe.Reasons() {
		if !slices.ContainsFunc(all, func(s scenario) bool { return s.reason == r }) {
			t.Errorf("%s has no scenario", r)
		}
	}
}
