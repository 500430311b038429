// Package conformance holds the rules that every Service proxy has to follow,
// as cases: what a client in a pod, on the node or outside sees when objects are
// such and such. The numbers are those of the project's list of 75 cases.
//
// A case knows a World: a node with pods and a proxy on it, and a way to apply
// objects. There are two: one takes the objects from files (this package's
// tests), one from a real API server (test/cluster). Both run the same cases.
package conformance
