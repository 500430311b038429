// Package demo is usher on a laptop: a few Services on loopback addresses with
// backends inside the process, served through the same pipeline as on a node.
// It needs no cluster, no privilege and no network set-up.
//
// Read manifests/ first, then demo.go; look.go is the page about it, and round.go what
// demo --once does.
package demo
