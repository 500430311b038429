package proxier

import (
	"maps"
	"slices"
)

// era numbers the states of the node between which listeners see a difference. Each
// pass has a state of its own, and comparing two once does for thousands of listeners.
type era struct {
	node   *nodeState
	number uint64
}

// of is the era of a state, the last one or a newer one.
func (e *era) of(node *nodeState) uint64 {
	if node != e.node {
		if e.node == nil || !node.clients.equal(e.node.clients) {
			e.number++
		}
		e.node = node
	}
	return e.number
}

// equal says whether both find all clients at the same places. What is behind an
// interface may have changed at any time.
func (c *clients) equal(other *clients) bool {
	return len(c.interfaces) == 0 && len(other.interfaces) == 0 &&
		maps.Equal(c.local, other.local) && slices.Equal(c.pods, other.pods) && slices.Equal(c.certain, other.certain)
}
