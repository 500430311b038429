// Package node proves what usher does to a node: its rules, its ports, its
// start and its end, on a real kernel, with objects from files.
package node
