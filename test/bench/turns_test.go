package bench

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// A measure is what is measured of a path once it answers, by column.
type measure func(*lab, route) (map[string]float64, error)

// A turn is what each path does in each round.
type turn struct {
	load   string
	proto  protocol
	paths  []path
	rounds int
	of     measure
}

// inTurn lets each path have its turn in each round, beginning with another one each time. A
// path that does not answer is not tried again.
func inTurn(b *testing.B, r *Report, t turn) {
	paths := slices.Clone(t.paths)
	for round := range t.rounds {
		for i := range paths {
			p := &paths[(round+i)%len(paths)]
			if p.start == nil {
				continue
			}
			b.Run(fmt.Sprintf("%s/%s/round-%d", t.load, p.name, round+1), func(b *testing.B) {
				values, unavailable := measurePath(b, t, *p)
				if unavailable != nil {
					fmt.Printf("%s: not available: %v\n", p.name, unavailable)
					p.start = nil
					b.SkipNow()
				}
				b.ReportMetric(0, "ns/op")
				for unit, v := range values {
					b.ReportMetric(v, unit)
				}
				r.add(Measurement{Round: round + 1, Load: t.load, Path: p.name, Values: values})
			})
		}
	}
}

// measurePath measures a path in a lab of its own, unless it does not answer there.
func measurePath(t testing.TB, turn turn, p path) (values map[string]float64, unavailable error) {
	if err := installed(turn.proto.programs...); err != nil {
		t.Fatal(err)
	}
	if p.program != "" {
		if err := installed(p.program); err != nil {
			return nil, err
		}
	}
	l := newLab(t, turn.proto)
	rt := p.start(l)
	for _, addr := range []netip.AddrPort{rt.last, rt.addr} {
		if !addr.IsValid() {
			continue
		}
		if err := l.awaitAnswer(addr, cmp.Or(rt.patience, startPatience)); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, tail(rt.output))
		}
	}
	values, err := turn.of(l, rt)
	if err != nil {
		t.Fatalf("%s: %v\n%s", p.name, err, tail(rt.output))
	}
	return values, nil
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// tail is the end of a file of text, as far as it can be read.
func tail(path string) string {
	const most = 2000
	text, _ := os.ReadFile(path)
	text = text[max(0, len(text)-most):]
	return strings.ToValidUTF8(string(text), "")
}

func publish(b *testing.B, r *Report) {
	if len(r.measurements) == 0 {
		return // none was asked for
	}
	if err := r.publish(*results); err != nil {
		b.Fatal(err)
	}
}
