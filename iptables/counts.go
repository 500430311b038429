package iptables

// Counts tells how many rules of ours the last Sync that succeeded has left in
// each table, by the table's name. The jumps from the kernel's chains are not
// among them.
func (t *Table) Counts() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := map[string]int{}
	for _, s := range t.written {
		for _, c := range s.chains {
			counts[s.table] += len(c.rules)
		}
	}
	return counts
}
