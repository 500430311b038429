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
	table.written = []section{
		{table: filter, chains: []chain{{inputChain, []string{"-j RETURN"}}}},
		{table: nat, chains: []chain{{outputChain, []string{"-j X"}}, {preroutingChain, []string{"-j Y"}}}},
	}
	if got, want := table.Counts(), map[string]int{"filter": 1, "nat": 2}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
