package iptables

import (
	"maps"
	"testing"
)

func TestCounts(t *testing.T) {
	table := &Table{}
	if got := table.Counts(); len(got) > 0 {
		t.Errorf("before the first Sync: %v", got)
	}
	table.written = "*filter\n:USHER-INPUT - [0:0]\n-A USHER-INPUT -j RETURN\nCOMMIT\n*nat\n:USHER-OUTPUT - [0:0]\n-A USHER-OUTPUT -j X\n-A USHER-OUTPUT -j Y\nCOMMIT\n"
	if got, want := table.Counts(), map[string]int{"filter": 1, "nat": 2}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
