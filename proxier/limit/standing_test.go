package limit

import (
	"net/netip"
	"testing"
)

func TestStandingIsWhatEnterFinds(t *testing.T) {
	one, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, c := range []struct {
		limits Limits
		room   int
		want   Kind // for another connection of the client that has one
		others Kind
	}{
		{Limits{}, 10, "", ""},
		{Limits{Connections: 1}, 10, Connections, Connections},
		{Limits{PerClient: 1}, 10, PerClient, ""},
		{Limits{Rate: Rate{PerSecond: 0.001, Burst: 1}}, 10, ConnectionRate, ConnectionRate},
		{Limits{}, 1, Process, Process},
	} {
		g := NewGate(c.limits, NewWhole(func() Room { return Room{Connections: c.room} }))
		visit, err := g.Enter(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // asking takes nothing
			if s := g.Standing(one); s.Obstacle != c.want || s.Admitted != 1 || s.Process != 1 || s.Room != c.room || s.Limits != c.limits {
				t.Errorf("%+v: %+v, want %q", c.limits, s, c.want)
			}
			if s := g.Standing(other); s.Obstacle != c.others || s.OfClient != 0 {
				t.Errorf("%+v: another client: %+v, want %q", c.limits, s, c.others)
			}
		}
		if c.limits.PerClient > 0 && g.Standing(one).OfClient != 1 {
			t.Errorf("%+v: the client is not counted", c.limits)
		}
		v, err := g.Enter(t.Context(), one)
		if (err == nil) != (c.want == "") {
			t.Errorf("%+v: Enter finds %v, want %q", c.limits, err, c.want)
		}
		v.Leave()
		visit.Leave()
	}
}
