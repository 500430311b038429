//go:build race

package node

// slower is by how much the race detector slows usher down, at least.
const slower = 10
