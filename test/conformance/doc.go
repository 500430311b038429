// Package conformance holds the rules that every Service proxy has to follow,
// as cases: what a client in a pod, on a node or outside sees when objects are
// such and such. The numbers are those of the project's list of 75 cases.
//
// A case knows a [World]: two nodes with pods and a proxy on each, and a way to
// apply objects. The objects come from files (this package's tests) or from a
// real API server (test/cluster). There the same cases also run with kube-proxy,
// which shows that they tell the contract and not our reading of it.
package conformance
