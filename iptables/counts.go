package iptables

import "strings"

// Counts tells how many rules of ours the last Sync that succeeded has left in
// each table, by the table's name. The jumps from the kernel's chains are not
// among them.
func (t *Table) Counts() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts, table := map[string]int{}, ""
	for l := range strings.Lines(t.written) {
		if name, ok := strings.CutPrefix(l, "*"); ok {
			table = strings.TrimSpace(name)
		}
		if strings.HasPrefix(l, "-A ") {
			counts[table]++
		}
	}
	return counts
}
