package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/usher-proxy/usher/proxier/admin"
)

// ruleRow is one rule of a capture.
type ruleRow struct {
	family, table, chain, text string
	number                     int // in its family
}

func newGetRules() *cobra.Command {
	type row = ruleRow
	return kind[admin.CapturedBy, row]{
		names: []string{"rules", "rule"}, singular: "rule", use: "",
		short: "List the rules that usher wants to have in the kernel",
		long: `rules lists what the usher on this node wants to have in the kernel to capture traffic,
one rule a line: those of chains of iptables, or rules and routes of ip(8). usher rules
print prints it as the programs of the field do, and usher rules diff compares it with
what the kernel has.`,
		example: `  usher get rules
  usher get rules --sort-by=chain --no-headers
  usher get rules -o json`,
		complete: nothingMore,
		empty: func(ctx context.Context, g *getter) string {
			var s admin.Status
			if err := admin.Get(ctx, g.admin.socket, "/v1/status", nil, &s); err != nil || s.Capture != "bind" {
				return ""
			}
			return "No rules are needed: the capture is bind, and usher listens on the Service addresses themselves."
		},
		flags: func(f *pflag.FlagSet) { // as kubectl, for what is in no namespace
			f.BoolP("all-namespaces", "A", false, "has no effect: rules are in no namespace")
		},
		rows: ruleRows,
		id:   func(c *admin.CapturedBy) string { return c.Family },
		ask: func(ctx context.Context, g *getter, args []string) (found []admin.CapturedBy, err error) {
			if len(args) > 0 {
				return nil, usageError{fmt.Errorf("unexpected argument %q: rules have no names", args[0])}
			}
			found = []admin.CapturedBy{}
			return found, admin.Get(ctx, g.admin.socket, "/v1/rules", url.Values{}, &found)
		},
		columns: []column[row]{
			{title: "FAMILY", cell: func(r *row) string { return r.family }},
			{title: "TABLE", cell: func(r *row) string { return r.table }},
			{title: "CHAIN", cell: func(r *row) string { return r.chain }},
			{title: "RULE", cell: func(r *row) string { return r.text }},
		},
	}.command()
}

// ruleRows reads what iptables-save(8) prints: *table, :CHAIN, -A CHAIN rule. Any other
// line is a rule by itself.
func ruleRows(c *admin.CapturedBy) (rows []ruleRow) {
	table := ""
	for line := range strings.Lines(c.Text) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		chain, text, _ := strings.Cut(rest, " ")
		switch {
		case line == "" || line == "COMMIT" || line[0] == '#' || line[0] == ':':
		case line[0] == '*':
			table = line[1:]
		case word == "-A":
			rows = append(rows, ruleRow{c.Family, table, chain, text, len(rows)})
		default:
			rows = append(rows, ruleRow{family: c.Family, text: line, number: len(rows)})
		}
	}
	return rows
}
