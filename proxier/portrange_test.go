package proxier

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-proxy/usher/iptables"
)

func key(name string) iptables.Key { return iptables.Key{Name: name, Protocol: iptables.TCP} }

func candidates(t *portTable, name string) []uint16 {
	return slices.Collect(t.candidates(key(name)))
}

func TestPortTable(t *testing.T) {
	table := newPortTable(PortRange{11000, 11004}, map[iptables.Key]uint16{key("b"): 11001, key("far"): 400})
	if got := candidates(table, "a"); !slices.Equal(got, []uint16{11000, 11002, 11003, 11004}) {
		t.Errorf("a newcomer may have %v", got)
	}
	if got := candidates(table, "b"); got[0] != 11001 {
		t.Errorf("one that had 11001 may have %v", got)
	}
	if got := candidates(table, "far"); got[0] != 11000 {
		t.Errorf("a port outside of the range was offered again: %v", got)
	}
	table.take(11000, key("a"))
	table.take(11001, key("b"))
	table.forgetLast()
	if got := candidates(table, "c"); got[0] != 11002 {
		t.Errorf("the lowest free port is 11002, offered were %v", got)
	}
	table.release(11000)
	for _, p := range []uint16{11000, 11002, 11003, 11004} {
		table.take(p, key("x"))
	}
	if got := candidates(table, "c"); len(got) != 0 {
		t.Errorf("the range is full, offered were %v", got)
	}
}

// Connection tracking still knows clients of a port that was given up.
func TestPortsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newPortTable(PortRange{11000, 11003}, nil)
		for _, p := range []uint16{11000, 11001, 11002} {
			table.take(p, key("x"))
		}
		offered := func(want ...uint16) {
			t.Helper()
			if got := candidates(table, "a"); !slices.Equal(got, want) {
				t.Errorf("offered %v, want %v", got, want)
			}
		}
		table.release(11001)
		time.Sleep(time.Minute)
		table.release(11000)
		offered(11003, 11001, 11000)
		table.take(11003, key("x"))
		offered(11001, 11000)
		time.Sleep(rest - time.Minute)
		offered(11001, 11000)
		time.Sleep(time.Minute)
		offered(11000, 11001)
		table.take(11000, key("x"))
		table.release(11000)
		offered(11001, 11000)
	})
}

func TestParsePortRange(t *testing.T) {
	if r, err := ParsePortRange("11000-29999"); err != nil || r != (PortRange{11000, 29999}) {
		t.Errorf("got %v, %v", r, err)
	}
	for _, bad := range []string{"", "11000", "0-10", "20-10", "a-b", "1-65536", "-5", "1-2-3"} {
		if r, err := ParsePortRange(bad); err == nil {
			t.Errorf("%q was read as %v", bad, r)
		}
	}
}
