package observe

import (
	"math/rand/v2"
	"testing"

	"github.com/usher-proxy/usher/proxier/wire"
)

// A record that goes on in another process ends with the line that it would have had.
func TestRecordsAreCarried(t *testing.T) {
	before, m, _, _ := setup(t)
	after := &Observer{node: before.node}
	after.Continue(before.Numbering())
	d := drawing{rand.New(rand.NewPCG(11, 12))}
	for range 500 {
		drawn := d.record()
		port := m.Port("shop", "cart", "http", "tcp")
		r := before.begin(port, drawn.Start)
		number, start := r.number, r.Start
		*r = *drawn
		r.by, r.number, r.Start, r.ServicePort = before, number, start, &port.ServicePort
		ending := r.Ending
		r.Ending = nil

		var w wire.Writer
		var c Carried
		carried := r.Carry()
		carried.Append(&w)
		if err := c.Read(wire.NewReader(w.B)); err != nil {
			t.Fatal(err)
		}
		same := after.Resume(port, &c)
		if off := same.Start.Sub(r.Start).Abs(); off > 1e9 {
			t.Fatalf("it began %v later or earlier", off)
		}
		same.Start, r.Ending, same.Ending = r.Start, ending, ending
		if got, want := string(appendJSON(nil, same)), string(appendJSON(nil, r)); got != want {
			t.Fatalf("it is\n%s\nwant\n%s", got, want)
		}
	}
	port := m.Port("shop", "cart", "http", "tcp")
	after.Continue(before.Numbering())
	if last, next := before.Numbering().Last, after.Open(port).number; next != last+1 {
		t.Errorf("after %d comes %d", last, next)
	}
}
